//! A gateway on loopback and an operator client, for demo, tests and benchmarks.
