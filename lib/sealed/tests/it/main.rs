//! Tests of the crate from outside: fixed vectors, tampering, hostile input.

mod support;

mod vectors;
