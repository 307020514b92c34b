//! House rules that no compiler checks, as tests.
#[test]
fn placeholder() {}
