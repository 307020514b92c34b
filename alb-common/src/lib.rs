#![no_std]
//! The contract between the kernel and the userspace half of ALB.
