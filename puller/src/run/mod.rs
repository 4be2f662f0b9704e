//! Containers: namespaces, the root switch, the process.
