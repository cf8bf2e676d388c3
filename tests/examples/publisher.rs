//! Publishes an FLV file: `cargo run --example publisher ADDRESS:PORT APP KEY FILE`.
//!
//! The documentation of `tiderace::rtmp` shows this code.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use tiderace::amf0;
use tiderace::media::MediaKind;
use tiderace::media::flv::FlvReader;
use tiderace::rtmp::client::{Client, ClientConfig, ClientEvent, Purpose};

/// Publishes an FLV file in real time as `rtmp://ADDRESS/APP/KEY`.
fn publish(address: &str, app: &str, key: &str, flv: &[u8]) -> Result<(), Box<dyn Error>> {
    let purpose = Purpose::Publish { key: key.to_owned() };
    let config = ClientConfig::new(app, format!("rtmp://{address}/{app}"), purpose);
    // C1 can hold any bytes: the server sends them back.
    let mut client = Client::new(config, &[7; 1528]);
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;

    let deadline = Instant::now() + Duration::from_secs(10);
    while !exchange(&mut socket, &mut client, deadline)? {
        if Instant::now() >= deadline {
            return Err("the server did not answer within 10 seconds".into());
        }
    }
    let (began, mut tags) = (Instant::now(), FlvReader::new(flv)?);
    while let Some(tag) = tags.next_tag()? {
        let due = began + Duration::from_millis(tag.timestamp.into());
        // While it waits, the client acknowledges and answers pings.
        while Instant::now() < due {
            exchange(&mut socket, &mut client, due)?;
        }
        match tag.media {
            MediaKind::Audio => client.write_audio(tag.timestamp, tag.payload),
            MediaKind::Video => client.write_video(tag.timestamp, tag.payload),
            MediaKind::Data => {
                // The server sends what follows this name to players that join later.
                let mut payload = Vec::new();
                amf0::put_string(&mut payload, b"@setDataFrame");
                payload.extend_from_slice(tag.payload);
                client.write_data(tag.timestamp, &payload);
            }
        }
        socket.write_all(&client.take_output())?;
    }
    client.delete_stream();
    socket.write_all(&client.take_output())?;
    // A socket that is closed with unread bytes can lose the last frames, so read to the end.
    socket.shutdown(Shutdown::Write)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    io::copy(&mut socket, &mut io::sink())?;
    Ok(())
}

/// Sends the waiting bytes, then reads once, until `deadline` at most. Returns whether the server
/// has just accepted the stream.
fn exchange(
    socket: &mut TcpStream,
    client: &mut Client,
    deadline: Instant,
) -> Result<bool, Box<dyn Error>> {
    socket.write_all(&client.take_output())?;
    let wait = deadline.saturating_duration_since(Instant::now());
    socket.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
    let mut buffer = [0; 4096];
    let count = match socket.read(&mut buffer) {
        Ok(0) => return Err("the server closed the connection".into()),
        Ok(count) => count,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    };
    let (mut input, mut is_accepted) = (&mut buffer[..count], false);
    while let Some(event) = client.next_event(&mut input)? {
        match event {
            ClientEvent::Publishing => is_accepted = true,
            ClientEvent::Refused(status) => {
                return Err(String::from_utf8_lossy(status.description).into());
            }
            _ => {}
        }
    }
    Ok(is_accepted)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [address, app, key, file] = &arguments[..] else {
        return Err("expected ADDRESS:PORT APP KEY FILE".into());
    };
    publish(address, app, key, &std::fs::read(file)?)
}
