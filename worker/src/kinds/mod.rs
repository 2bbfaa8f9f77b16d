//! The kinds that ship: one file each, and one line in [`builtin`].
