//! The places of the site: what a path names.
//!
//! Owns the table of paths. It decides nothing about who may see a place.

use super::Answer;
use crate::http::requests::{HttpRequest, Method};
use crate::http::response::HttpStatus;
use crate::rtmp::name::{AppName, StreamTarget};
use std::fmt;

/// The containers in which a stream is played over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    /// FLV (FLV 10.1, annex E).
    Flv,
}

/// What a request asks for.
#[derive(Debug)]
pub(super) enum Place {
    /// Whether the process answers at all.
    Health,
    /// Whether it takes new publishers and players.
    Ready,
    /// A stream, to be played.
    Stream { target: StreamTarget, container: Container },
}

/// Endings of a stream's path. The longer ones come first.
const ENDINGS: [(&str, Container); 2] = [(".live.flv", Container::Flv), (".flv", Container::Flv)];

impl Place {
    /// Returns the place that a request asks for, or the answer that there is none, or not for
    /// this method.
    pub(super) fn of(request: &HttpRequest) -> Result<Self, Answer> {
        let path = request.path();
        let place = match path {
            "/healthz" => Self::Health,
            "/readyz" => Self::Ready,
            // As with SRS and nginx-http-flv, whose links people bring along.
            "/flv" => Self::by_query(request)?,
            _ => Self::stream(path)?,
        };
        let (methods, allow): (&[Method], _) = match place {
            Self::Stream { .. } => {
                (&[Method::Get, Method::Head, Method::Options], "GET, HEAD, OPTIONS")
            }
            Self::Health | Self::Ready => (&[Method::Get, Method::Head], "GET, HEAD"),
        };
        if methods.contains(&request.method()) {
            Ok(place)
        } else {
            Err(Answer::not_allowed(allow))
        }
    }

    fn stream(path: &str) -> Result<Self, Answer> {
        let ending = ENDINGS
            .iter()
            .find_map(|(ending, container)| Some((path.strip_suffix(ending)?, *container)));
        let Some((name, container)) = ending else { return Err(nothing_here()) };
        Self::named(name, container)
    }

    fn by_query(request: &HttpRequest) -> Result<Self, Answer> {
        let value = |name| request.query_value(name);
        let (Some(app), Some(stream)) = (value("app"), value("stream")) else {
            return Err(nothing_here());
        };
        Self::named(&format!("{app}/{stream}"), Container::Flv)
    }

    fn named(name: &str, container: Container) -> Result<Self, Answer> {
        let target = AppName::parse(name.as_bytes(), None).and_then(|app| app.stream(b""));
        match target {
            Ok(target) => Ok(Self::Stream { target, container }),
            Err(error) => {
                Err(Answer::problem(HttpStatus::NotFound, "bad_name", &error.to_string()))
            }
        }
    }

    /// Returns whether any page may read it. Players on other sites need that.
    pub(super) const fn is_public(&self) -> bool {
        matches!(self, Self::Stream { .. })
    }
}

fn nothing_here() -> Answer {
    Answer::problem(
        HttpStatus::NotFound,
        "not_found",
        "nothing is here; a stream is at /APP/NAME.flv",
    )
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Health => "/healthz",
            Self::Ready => "/readyz",
            Self::Stream { .. } => "a stream",
        })
    }
}
