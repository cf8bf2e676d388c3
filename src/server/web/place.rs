//! The places of the site: what a path names.
//!
//! Owns the table of paths. It decides nothing about who may see a place.

use super::Answer;
use super::api::{Call, ConnHandle, StreamHandle};
use super::hls::{self, HlsPlaylist};
use super::page::Asset;
use crate::http::requests::{HttpRequest, Method};
use crate::http::response::HttpStatus;
use crate::rtmp::name::{AppName, StreamTarget};
use crate::stream::ids::Incarnation;
use crate::stream::parts::RenditionKind;
use crate::stream::playlist::SegmentFile;
use std::fmt;

/// The containers in which a stream is played over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    /// FLV (FLV 10.1, annex E).
    Flv,
    /// Fragmented MP4 (ISO/IEC 14496-12, section 8.8).
    Mp4,
}

/// What a request asks for.
#[derive(Debug)]
pub(super) enum Place {
    /// Whether the process answers at all.
    Health,
    /// Whether it takes new publishers and players.
    Ready,
    /// The page.
    Page,
    /// A file of the page.
    Asset(Asset),
    /// The events of an open page.
    Events,
    /// The metrics.
    Metrics,
    /// A call of the API.
    Api(Call),
    /// A stream, to be played.
    Stream { target: StreamTarget, container: Container },
    /// A playlist of a stream.
    Playlist { target: StreamTarget, playlist: HlsPlaylist },
    /// A file that a playlist names.
    Segment { target: StreamTarget, incarnation: Incarnation, file: SegmentFile },
}

/// Where the paths of the API begin. A version is only added to: what it has is never removed.
const API: &str = "/api/v1/";

/// Endings of a stream's path. The longer ones come first.
const ENDINGS: [(&str, Container); 3] =
    [(".live.flv", Container::Flv), (".flv", Container::Flv), (".mp4", Container::Mp4)];

impl Place {
    /// Returns the place that a request asks for, or the answer that there is none, or not for
    /// this method.
    pub(super) fn of(request: &HttpRequest) -> Result<Self, Answer> {
        let path = request.path();
        let place = match path {
            "/healthz" => Self::Health,
            "/readyz" => Self::Ready,
            "/" => Self::Page,
            "/page.css" => Self::Asset(Asset::Style),
            "/page.js" => Self::Asset(Asset::Script),
            "/events" => Self::Events,
            "/metrics" => Self::Metrics,
            // As with SRS and nginx-http-flv, whose links people bring along.
            "/flv" => Self::by_query(request)?,
            _ if path.starts_with(API) => return Self::api(request, &path[API.len()..]),
            _ => Self::stream(path)?,
        };
        let (methods, allow): (&[Method], _) = match place {
            Self::Stream { .. } | Self::Playlist { .. } | Self::Segment { .. } => {
                (&[Method::Get, Method::Head, Method::Options], "GET, HEAD, OPTIONS")
            }
            _ => (&[Method::Get, Method::Head], "GET, HEAD"),
        };
        if methods.contains(&request.method()) {
            Ok(place)
        } else {
            Err(Answer::not_allowed(allow))
        }
    }

    /// Returns the call that a path below [`API`] and the method name.
    fn api(request: &HttpRequest, path: &str) -> Result<Self, Answer> {
        let parts: Vec<_> = path.split('/').collect();
        let no_such = |what: &str| {
            let detail = format!("there is no such {what}");
            Answer::problem(HttpStatus::NotFound, "not_found", &detail)
        };
        let stream = |text| StreamHandle::parse(text).ok_or_else(|| no_such("stream"));
        let conn = |text| ConnHandle::parse(text).ok_or_else(|| no_such("connection"));
        let calls: &[(Method, Call)] = match &parts[..] {
            ["server"] => &[(Method::Get, Call::Server)],
            ["streams"] => &[(Method::Get, Call::Streams)],
            ["streams", key] => {
                let key = stream(key)?;
                &[(Method::Get, Call::Stream(key)), (Method::Delete, Call::EndStream(key))]
            }
            ["connections"] => &[(Method::Get, Call::Connections)],
            ["connections", key] => {
                let key = conn(key)?;
                &[(Method::Get, Call::Connection(key)), (Method::Delete, Call::Kick(key))]
            }
            ["connections", key, "kick"] => &[(Method::Post, Call::Kick(conn(key)?))],
            ["config"] => &[(Method::Get, Call::Config)],
            ["openapi.json"] => &[(Method::Get, Call::Description)],
            ["reload"] => &[(Method::Post, Call::Reload)],
            ["log-level"] => &[(Method::Put, Call::LogLevel)],
            _ => return Err(nothing_here()),
        };
        let method = match request.method() {
            Method::Head => Method::Get,
            method => method,
        };
        let found = calls.iter().find(|(of, _)| *of == method);
        found.map(|(_, call)| Self::Api(*call)).ok_or_else(|| {
            Answer::not_allowed(match calls {
                [(Method::Get, _), _] => "GET, HEAD, DELETE",
                [(Method::Get, _)] => "GET, HEAD",
                [(Method::Put, _)] => "PUT",
                _ => "POST",
            })
        })
    }

    fn stream(path: &str) -> Result<Self, Answer> {
        if let Some(place) = Self::hls(path) {
            return place;
        }
        let ending = ENDINGS
            .iter()
            .find_map(|(ending, container)| Some((path.strip_suffix(ending)?, *container)));
        let Some((name, container)) = ending else { return Err(nothing_here()) };
        let target = target(name)?;
        Ok(Self::Stream { target, container })
    }

    /// Returns the place of HLS that a path names, if it is one.
    fn hls(path: &str) -> Option<Result<Self, Answer>> {
        let (directory, name) = path.rsplit_once('/')?;
        let file = || {
            let (stream, run) = directory.rsplit_once('/')?;
            Some((stream, Incarnation::parse(run)?, SegmentFile::parse(name)?))
        };
        if let Some((stream, incarnation, file)) = file() {
            return Some(target(stream).map(|target| Self::Segment { target, incarnation, file }));
        }
        let kind = RenditionKind::ALL.into_iter().find(|kind| kind.playlist() == name);
        let (stream, playlist) = match kind {
            Some(kind) => (directory, HlsPlaylist::Media(kind)),
            None if name == "index.m3u8" => (directory, HlsPlaylist::Multivariant(String::new())),
            None => {
                let stream = path.strip_suffix(".m3u8")?;
                let prefix = format!("{}/", hls::encoded(name.strip_suffix(".m3u8")?));
                (stream, HlsPlaylist::Multivariant(prefix))
            }
        };
        Some(target(stream).map(|target| Self::Playlist { target, playlist }))
    }

    fn by_query(request: &HttpRequest) -> Result<Self, Answer> {
        let value = |name| request.query_value(name);
        let (Some(app), Some(stream)) = (value("app"), value("stream")) else {
            return Err(nothing_here());
        };
        let target = target(&format!("{app}/{stream}"))?;
        Ok(Self::Stream { target, container: Container::Flv })
    }

    /// Returns whether any page may read it. Players on other sites need that.
    pub(super) const fn is_public(&self) -> bool {
        matches!(self, Self::Stream { .. } | Self::Playlist { .. } | Self::Segment { .. })
    }
}

/// Returns the stream that a path names.
fn target(name: &str) -> Result<StreamTarget, Answer> {
    let target = AppName::parse(name.as_bytes(), None).and_then(|app| app.stream(b""));
    target.map_err(|error| Answer::problem(HttpStatus::NotFound, "bad_name", &error.to_string()))
}

fn nothing_here() -> Answer {
    Answer::problem(
        HttpStatus::NotFound,
        "not_found",
        "nothing is here; a stream is at /APP/NAME.flv, .mp4 or /index.m3u8",
    )
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Health => "/healthz",
            Self::Ready => "/readyz",
            Self::Page => "/",
            Self::Asset(_) => "a file of the page",
            Self::Events => "/events",
            Self::Metrics => "/metrics",
            Self::Api(_) => "a call of the API",
            Self::Stream { .. } => "a stream",
            Self::Playlist { .. } => "a playlist",
            Self::Segment { .. } => "a segment",
        })
    }
}
