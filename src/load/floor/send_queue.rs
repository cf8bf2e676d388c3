//! The unsent bytes of one player, when the kernel did not take a frame at once.
//!
//! Owns the bound on them. A player that takes every frame at once costs nothing here, and no frame
//! is copied for it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write};

use bytes::Bytes;
use mio::net::TcpStream;

use super::memory_file::FileRange;
use crate::limits;

/// Bytes to send to all players of a stream.
#[derive(Debug)]
pub(super) enum Payload<'a> {
    /// From memory, one part after the other. The first player that does not take them at once
    /// causes one copy, shared by all.
    Memory([&'a [u8]; 2], Option<Bytes>),
    /// From a memory file.
    File(FileRange),
}

impl Payload<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Memory([first, second], _) => first.len() + second.len(),
            Self::File(range) => range.len(),
        }
    }

    fn send(&self, socket: &mut TcpStream, offset: usize) -> io::Result<usize> {
        match self {
            Self::Memory([first, second], _) => {
                let second = &second[offset.saturating_sub(first.len())..];
                let first = &first[offset.min(first.len())..];
                match (first, second) {
                    ([], bytes) | (bytes, []) => socket.write(bytes),
                    _ => socket.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]),
                }
            }
            Self::File(range) => range.send(socket, offset),
        }
    }

    /// Returns the bytes after `offset`, to be sent later.
    fn rest_after(&mut self, offset: usize) -> Piece {
        match self {
            Self::Memory(parts, kept) => {
                let all = kept.get_or_insert_with(|| Bytes::from(parts.concat()));
                Piece::Memory(all.slice(offset..))
            }
            Self::File(range) => Piece::File(range.rest_after(offset)),
        }
    }
}

/// Frames, or the rest of them, that wait to be sent.
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

    fn rest_after(&self, offset: usize) -> Self {
        match self {
            Self::Memory(bytes) => Self::Memory(bytes.slice(offset..)),
            Self::File(range) => Self::File(range.rest_after(offset)),
        }
    }
}

/// The queue of one player.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    pieces: VecDeque<Piece>,
    queued_bytes: usize,
}

/// Reason for dropping a player.
#[derive(Debug)]
pub(super) enum SendError {
    /// The connection broke.
    Broken,
    /// More than [`limits::FLOOR_WAITING_BYTES_MAX`] are queued.
    DoesNotRead,
}

impl SendQueue {
    /// Sends `payload` as far as the kernel takes it, and queues the rest. If older bytes are
    /// queued, all of it is queued. Returns the bytes sent.
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
            self.queued_bytes += left;
            if self.queued_bytes > limits::FLOOR_WAITING_BYTES_MAX {
                return Err(SendError::DoesNotRead);
            }
            self.pieces.push_back(payload.rest_after(sent));
        }
        Ok(sent)
    }

    /// Sends queued bytes as far as the kernel takes them. Returns the bytes sent.
    pub(super) fn flush(&mut self, socket: &mut TcpStream) -> Result<usize, SendError> {
        let mut total = 0;
        while let Some(piece) = self.pieces.front_mut() {
            let sent = send_all(piece.len(), |offset| piece.send(socket, offset))?;
            total += sent;
            self.queued_bytes -= sent;
            if sent < piece.len() {
                *piece = piece.rest_after(sent);
                break;
            }
            self.pieces.pop_front();
        }
        Ok(total)
    }
}

/// Sends until all `bytes` are sent or the kernel takes no more. Returns the bytes sent.
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
