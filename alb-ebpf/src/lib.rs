#![no_std]
//! The packet path.
