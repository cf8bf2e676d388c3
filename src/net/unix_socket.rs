//! Unix sockets to listen on, and the files that stand for them.
//!
//! A server that was killed leaves its file behind, and bind(2) fails on a file that exists. So a
//! file that nobody listens on is replaced. Permissions of the file are those of the umask.

use super::listener::BACKLOG;
use crate::config::{Limits, SocketPath};
use mio::net::{TcpStream, UnixListener};
use rustix::io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, listen};
use rustix::net::{socket, sockopt};
use std::fs;
use std::io;
use std::net;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net as std_unix;

/// A unix socket that is listened on. Its file is removed when it is dropped.
#[derive(Debug)]
pub(super) struct PathListener {
    /// Comes first, so that the file goes while the socket still listens: another server that
    /// starts at this moment then does not take it for one that was left behind.
    file: SocketFile,
    pub(super) socket: UnixListener,
}

impl PathListener {
    /// Listens on `path`. Replaces a socket that nobody listens on.
    ///
    /// # Errors
    /// `AddrInUse` if somebody listens on the path, `AlreadyExists` if another kind of file is
    /// there.
    pub(super) fn bind(path: &SocketPath) -> io::Result<Self> {
        let (socket, address) = (open()?, SocketAddrUnix::new(path.get())?);
        match bind(&socket, &address) {
            Err(Errno::ADDRINUSE) => {
                remove_stale(path.get(), &address)?;
                bind(&socket, &address)?;
            }
            bound => bound?,
        }
        let file = SocketFile::of(path)?;
        listen(&socket, BACKLOG)?;
        let socket = UnixListener::from_std(std_unix::UnixListener::from(socket));
        Ok(Self { file, socket })
    }

    /// Accepts a connection.
    ///
    /// Unix sockets do not inherit the sizes of buffers, so each is told how much it may hold for
    /// a peer that does not read. A socket that refuses the size has that of the system.
    ///
    /// The result is a `TcpStream` in name only. Its methods are those of any stream socket, and
    /// TCP options fail on it. A transport of two kinds was rejected: it takes a branch in each
    /// call and makes every connection larger.
    pub(super) fn accept(&self, send_bytes_max: usize) -> io::Result<TcpStream> {
        let stream = OwnedFd::from(self.socket.accept()?.0);
        if send_bytes_max != 0 {
            let _ = sockopt::set_socket_send_buffer_size(&stream, send_bytes_max);
        }
        Ok(TcpStream::from_std(net::TcpStream::from(stream)))
    }

    /// Returns the path as it is configured.
    pub(super) const fn path(&self) -> &SocketPath {
        &self.file.path
    }
}

/// Returns the bound of the bytes in the kernel for a peer that does not read; 0 for that of the
/// system. Everything in a unix socket is unsent, in the sense of `socket_unsent_bytes_max`. Half
/// of that is set, because the kernel doubles the size of a buffer and counts its own data in it.
pub(super) fn send_bytes_max(limits: &Limits) -> usize {
    match limits.socket_send_bytes_max {
        0 => limits.socket_unsent_bytes_max / 2,
        bytes => bytes,
    }
}

fn open() -> Result<OwnedFd, Errno> {
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// Removes the socket at `path` if nobody listens on it.
fn remove_stale(path: &str, address: &SocketAddrUnix) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        let what = "a file that is not a socket has this name";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    match connect(&open()?, address) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        // AGAIN: the queue of the listener is full. PROTOTYPE: the socket is for datagrams.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(Errno::ADDRINUSE.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// The file of a socket, which is removed when this is dropped.
#[derive(Debug)]
struct SocketFile {
    path: SocketPath,
    /// Device and inode, which a file that has replaced this one does not have.
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &SocketPath) -> io::Result<Self> {
        Ok(Self { path: path.clone(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // A directory that has become read-only keeps the file. The next start replaces it.
            let _ = fs::remove_file(self.path.get());
        }
    }
}

fn identity(path: &SocketPath) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path.get())?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env;
    use std::io::ErrorKind;
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::process;

    /// A path of a test, which is removed at the end.
    struct Place(SocketPath);

    impl Place {
        fn new(name: &str) -> Self {
            let file = env::temp_dir().join(format!("tiderace-{}-{name}", process::id()));
            Self(SocketPath::new(file.to_str().unwrap()).unwrap())
        }

        fn exists(&self) -> bool {
            fs::symlink_metadata(self.0.get()).is_ok()
        }

        fn error(&self) -> ErrorKind {
            PathListener::bind(&self.0).unwrap_err().kind()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_file(self.0.get());
        }
    }

    #[test]
    fn a_socket_that_nobody_listens_on_is_replaced_and_removed_in_the_end() {
        let place = Place::new("stale");
        drop(std_unix::UnixListener::bind(place.0.get()).unwrap());
        assert!(place.exists(), "the standard library leaves it behind");
        let listener = PathListener::bind(&place.0).unwrap();
        UnixStream::connect(place.0.get()).unwrap();
        assert_eq!(listener.path(), &place.0);
        drop(listener);
        assert!(!place.exists());
    }

    #[test]
    fn a_socket_that_somebody_listens_on_stays() {
        let place = Place::new("taken");
        let _listener = PathListener::bind(&place.0).unwrap();
        assert_eq!(place.error(), ErrorKind::AddrInUse);
        UnixStream::connect(place.0.get()).unwrap();
        let datagrams = Place::new("datagrams");
        let _socket = UnixDatagram::bind(datagrams.0.get()).unwrap();
        assert_eq!(datagrams.error(), ErrorKind::AddrInUse);
    }

    #[test]
    fn a_file_of_another_kind_stays_as_it_is() {
        let place = Place::new("file");
        fs::write(place.0.get(), "mine").unwrap();
        assert_eq!(place.error(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(place.0.get()).unwrap(), "mine");
        // A link is judged by itself, not by its target.
        let link = Place::new("link");
        std::os::unix::fs::symlink(place.0.get(), link.0.get()).unwrap();
        assert_eq!(link.error(), ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_socket_of_another_server_at_the_same_path_is_not_removed() {
        let place = Place::new("successor");
        let listener = PathListener::bind(&place.0).unwrap();
        fs::remove_file(place.0.get()).unwrap();
        let _successor = PathListener::bind(&place.0).unwrap();
        drop(listener);
        assert!(place.exists());
    }

    #[test]
    fn accepted_sockets_hold_a_bounded_part_of_the_kernel() {
        let place = Place::new("bounded");
        let listener = PathListener::bind(&place.0).unwrap();
        let _peer = UnixStream::connect(place.0.get()).unwrap();
        let stream = listener.accept(50_000).unwrap();
        #[cfg(target_os = "linux")]
        assert_eq!(sockopt::socket_send_buffer_size(&stream), Ok(100_000));
        let limits = Limits { socket_send_bytes_max: 0, ..Limits::default() };
        assert_eq!(send_bytes_max(&limits), limits.socket_unsent_bytes_max / 2);
        assert_eq!(send_bytes_max(&Limits { socket_send_bytes_max: 7, ..limits }), 7);
        drop(stream);
    }
}
