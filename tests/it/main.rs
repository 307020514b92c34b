//! One test binary; modules by subject.

mod lab;
mod setting;

mod devices;
mod doctor;
mod malformed;
mod neighbour;
mod net;
mod refusal;
mod reload;
mod restart;
mod rows;
mod selection;
mod snat;
mod transfer;
