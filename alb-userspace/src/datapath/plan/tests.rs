//! Plans, step by step.
