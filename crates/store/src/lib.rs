//! The MVCC state machine and its watch hub: bytes in, bytes out.
