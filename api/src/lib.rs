//! The HTTP intake of Offload
