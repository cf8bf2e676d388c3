//! What one player is still to be sent, because the kernel did not take it when it came.
//!
//! Owns the bound on that. A player that takes all at once costs nothing here, and no frame is
//! copied for it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};

use bytes::Bytes;
use mio::net::TcpStream;

use super::memory_file::FileRange;
use crate::limits;

/// What all players of a stream are sent.
#[derive(Debug)]
pub(super) enum Payload<'a> {
    /// From memory. A copy is made when the first player does not take it at once, for all.
    Memory(&'a [u8], Option<Bytes>),
    /// From a file.
    File(FileRange),
}

impl Payload<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Memory(bytes, _) => bytes.len(),
            Self::File(range) => range.len(),
        }
    }

    fn send(&self, socket: &mut TcpStream, offset: usize) -> io::Result<usize> {
        match self {
            Self::Memory(bytes, _) => socket.write(&bytes[offset..]),
            Self::File(range) => range.send(socket, offset),
        }
    }

    /// What is behind `offset`, to be sent later.
    fn behind(&mut self, offset: usize) -> Piece {
        match self {
            Self::Memory(bytes, kept) => {
                let all = kept.get_or_insert_with(|| Bytes::copy_from_slice(bytes));
                Piece::Memory(all.slice(offset..))
            }
            Self::File(range) => Piece::File(range.behind(offset)),
        }
    }
}

/// A part of a frame, or a whole one, that waits.
#[derive(Debug)]
enum Piece {
    Memory(Bytes),
    File(FileRange),
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File(range) => range.len(),
        }
    }

    fn send(&self, socket: &mut TcpStream, offset: usize) -> io::Result<usize> {
        match self {
            Self::Memory(bytes) => socket.write(&bytes[offset..]),
            Self::File(range) => range.send(socket, offset),
        }
    }

    fn behind(&self, offset: usize) -> Self {
        match self {
            Self::Memory(bytes) => Self::Memory(bytes.slice(offset..)),
            Self::File(range) => Self::File(range.behind(offset)),
        }
    }
}

/// What waits for one player, in its order.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    pieces: VecDeque<Piece>,
    waiting_bytes: usize,
}

/// Why a player is let go.
#[derive(Debug)]
pub(super) enum SendError {
    /// Its connection broke.
    Broken,
    /// More than [`limits::FLOOR_WAITING_BYTES_MAX`] wait for it.
    DoesNotRead,
}

impl SendQueue {
    /// Sends `payload`, or as much of it as the kernel takes, and keeps the rest. Behind what
    /// waits already, all of it waits. Returns the bytes sent.
    pub(super) fn send(
        &mut self,
        socket: &mut TcpStream,
        payload: &mut Payload<'_>,
    ) -> Result<usize, SendError> {
        let mut sent = 0;
        if self.pieces.is_empty() {
            sent = send_all(payload.len(), |offset| payload.send(socket, offset))?;
        }
        let left = payload.len() - sent;
        if left > 0 {
            self.waiting_bytes += left;
            if self.waiting_bytes > limits::FLOOR_WAITING_BYTES_MAX {
                return Err(SendError::DoesNotRead);
            }
            self.pieces.push_back(payload.behind(sent));
        }
        Ok(sent)
    }

    /// Sends what waits, as far as the kernel takes it. Returns the bytes sent.
    pub(super) fn flush(&mut self, socket: &mut TcpStream) -> Result<usize, SendError> {
        let mut total = 0;
        while let Some(piece) = self.pieces.front_mut() {
            let sent = send_all(piece.len(), |offset| piece.send(socket, offset))?;
            total += sent;
            self.waiting_bytes -= sent;
            if sent < piece.len() {
                *piece = piece.behind(sent);
                break;
            }
            self.pieces.pop_front();
        }
        Ok(total)
    }
}

/// Sends until all `bytes` are sent or the kernel takes no more. Returns how many it took.
fn send_all(
    bytes: usize,
    mut send: impl FnMut(usize) -> io::Result<usize>,
) -> Result<usize, SendError> {
    let mut sent = 0;
    while sent < bytes {
        match send(sent) {
            Ok(count) => sent += count,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => break,
                ErrorKind::Interrupted => {}
                _ => return Err(SendError::Broken),
            },
        }
    }
    Ok(sent)
}
