//! The judges: who may connect, publish and play.
//!
//! A judge sees a request and what is known of the peer. It never touches a connection. An error
//! in a rule, a file or a judge never lets anybody in.

pub mod access;
