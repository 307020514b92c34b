//! One test binary; modules by subject.
