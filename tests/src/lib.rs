//! Harness for the kernel rings: namespaces, topology, daemon, packets.
