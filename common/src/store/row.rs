//! Decoding that the stores share.
