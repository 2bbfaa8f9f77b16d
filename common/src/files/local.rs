//! Files in a folder of this machine, or one that machines share.
