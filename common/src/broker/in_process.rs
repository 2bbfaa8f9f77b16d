//! Within one process: for `offload dev`, and for tests.
