//! The handshake (RTMP 1.0, section 5.2).

/// What becomes of a C2 that does not repeat S1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum C2Check {
    /// It is not looked at.
    Off,
    /// It is counted and logged.
    Log,
    /// It ends the connection.
    Strict,
}
