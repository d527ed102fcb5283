//! Namespaces, veth pairs and real servers to test with.
