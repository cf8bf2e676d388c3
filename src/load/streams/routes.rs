//! Where streams are published and played: the addresses, and the key of each stream.
//!
//! Owns the lists of keys and the choice between RTMP and HTTP-FLV for players. It opens no
//! connection.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::limits::LOAD_KEYS_BYTES_MAX;
use crate::load::LoadError;
use crate::load::engine::Speak;
use crate::load::http_flv::HttpTarget;
use crate::load::target::Target;
use crate::rtmp::client::Purpose;
use crate::rtmp::name::AppName;

/// The routes of both sides.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    pub(super) publish: Route,
    pub(super) play: Route,
}

/// The way of one side to the streams.
#[derive(Clone, Debug)]
pub(super) struct Route {
    server: RouteServer,
    keys: Keys,
    streams: u32,
}

#[derive(Clone, Debug)]
enum RouteServer {
    Rtmp(Target),
    HttpFlv(HttpTarget),
}

/// The keys of all streams.
#[derive(Clone, Debug)]
enum Keys {
    /// The key of the URL; several streams have a number after it.
    OfUrl,
    /// A key for each stream.
    Listed(Vec<String>),
}

impl Routes {
    /// Creates the routes of `streams` streams that are published and played at the same URL.
    pub(super) fn new(target: &Target, streams: u32) -> Self {
        let server = RouteServer::Rtmp(target.clone());
        let publish = Route { server, keys: Keys::OfUrl, streams };
        Self { play: publish.clone(), publish }
    }

    /// Lets publishers and players use the listed keys.
    pub(super) fn with_keys(mut self, keys: Vec<String>) -> Self {
        self.publish.keys = Keys::Listed(keys);
        self.play.keys = self.publish.keys.clone();
        self
    }

    /// Lets players play at another URL, of `rtmp` or `http`.
    ///
    /// # Errors
    /// [`LoadError::BadTarget`] or [`LoadError::UnknownHost`].
    pub(super) fn playing_at(mut self, url: &str) -> Result<Self, LoadError> {
        self.play.server = match url.starts_with("http") {
            true => RouteServer::HttpFlv(HttpTarget::parse(url)?),
            false => RouteServer::Rtmp(Target::parse(url)?),
        };
        Ok(self)
    }

    /// Lets players use keys of their own.
    ///
    /// # Errors
    /// [`LoadError::KeyCount`]: there is not one for each stream.
    pub(super) fn playing_keys(
        mut self,
        path: &Path,
        keys: Vec<String>,
    ) -> Result<Self, LoadError> {
        if keys.len() != self.publish.streams as usize {
            let (file, expected) = (path.display().to_string(), self.publish.streams);
            return Err(LoadError::KeyCount { file, expected, got: keys.len() });
        }
        self.play.keys = Keys::Listed(keys);
        Ok(self)
    }
}

impl Route {
    /// Returns the address of the server.
    pub(super) const fn address(&self) -> SocketAddr {
        match &self.server {
            RouteServer::Rtmp(target) => target.address,
            RouteServer::HttpFlv(target) => target.address,
        }
    }

    /// Returns the key of a stream, as RTMP and the floor use it. A query stays at the end.
    pub(super) fn key(&self, stream: u32) -> String {
        let key = match (&self.keys, &self.server) {
            (Keys::Listed(keys), _) => return keys[stream as usize].clone(),
            (Keys::OfUrl, RouteServer::Rtmp(target)) => target.key.as_str(),
            (Keys::OfUrl, RouteServer::HttpFlv(target)) => target.key(),
        };
        let (name, query) = key.split_at(key.find('?').unwrap_or(key.len()));
        let name = if name.is_empty() { "load" } else { name };
        match self.streams {
            1 => format!("{name}{query}"),
            _ => format!("{name}-{stream}{query}"),
        }
    }

    /// Returns the protocol with which a player plays a stream.
    pub(super) fn player(&self, stream: u32) -> Speak {
        let key = self.key(stream);
        match &self.server {
            RouteServer::Rtmp(target) => {
                Speak::RtmpAt(target.address, target.client(Purpose::Play { key }))
            }
            RouteServer::HttpFlv(target) => Speak::HttpFlv(target.request(&key)),
        }
    }

    /// Returns the name of a stream for messages, without its query, which may hold credentials.
    pub(super) fn shown(&self, stream: u32) -> String {
        let key = self.key(stream);
        let name = key.split('?').next().unwrap_or_default();
        match &self.server {
            RouteServer::Rtmp(target) => format!("{}/{name}", target.app),
            RouteServer::HttpFlv(target) => {
                format!("{}{name}", target.directory().trim_start_matches('/'))
            }
        }
    }
}

/// Reads a list of keys, one a line. Empty lines are skipped.
///
/// # Errors
/// [`LoadError::File`], [`LoadError::KeyList`].
pub(super) fn read_keys(path: &Path) -> Result<Vec<String>, LoadError> {
    let bytes = fs::metadata(path).map_err(|error| LoadError::file(path, error))?.len();
    let bad = |line, reason: String| LoadError::KeyList {
        file: path.display().to_string(),
        line,
        reason,
    };
    if bytes > LOAD_KEYS_BYTES_MAX {
        let reason = format!("expected at most {LOAD_KEYS_BYTES_MAX} bytes, got {bytes}");
        return Err(bad(1, reason));
    }
    let text = fs::read_to_string(path).map_err(|error| LoadError::file(path, error))?;
    parse_keys(&text).map_err(|(line, reason)| bad(line, reason))
}

/// Parses a list of keys. An error has the number of the line, and not the key, which is a secret.
fn parse_keys(text: &str) -> Result<Vec<String>, (usize, String)> {
    let app = AppName::parse(b"live", None).map_err(|error| (1, error.to_string()))?;
    let mut keys = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let key = line.trim();
        if key.is_empty() {
            continue;
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err((number, "expected a key of printable ASCII without blanks".to_owned()));
        }
        app.stream(key.as_bytes()).map_err(|error| (number, error.to_string()))?;
        keys.push(key.to_owned());
    }
    if keys.is_empty() {
        return Err((1, "expected a key, got none".to_owned()));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(key: &str) -> Target {
        Target::parse(&format!("rtmp://127.0.0.1/live/{key}")).unwrap()
    }

    fn listed(keys: [&str; 2]) -> Vec<String> {
        keys.map(str::to_owned).to_vec()
    }

    #[test]
    fn each_stream_has_a_key_and_all_have_the_query() {
        let key = |target: &Target, streams, stream| Routes::new(target, streams).play.key(stream);
        assert_eq!(key(&target("show?token=x"), 1, 0), "show?token=x");
        assert_eq!(key(&target("show?token=x"), 2, 1), "show-1?token=x");
        assert_eq!(key(&target(""), 1, 0), "load");
    }

    #[test]
    fn listed_keys_take_the_place_of_the_key_of_the_url_on_both_sides() {
        let routes = Routes::new(&target("show"), 2).with_keys(listed(["a?x=1", "b"]));
        assert_eq!(routes.publish.key(1), "b");
        assert_eq!((routes.play.key(0), routes.play.shown(0)), ("a?x=1".into(), "live/a".into()));
        let path = Path::new("keys");
        let routes = routes.playing_keys(path, listed(["c", "d"])).unwrap();
        assert_eq!((routes.publish.key(0), routes.play.key(0)), ("a?x=1".into(), "c".into()));
        let error = routes.playing_keys(path, vec!["c".into()]).unwrap_err();
        assert_eq!(error.to_string(), "keys: expected a key for each of 2 streams, got 1");
    }

    #[test]
    fn players_play_at_their_own_url_with_its_key_or_the_listed_ones() {
        let routes = Routes::new(&target("secret"), 2);
        let text = |routes: &Routes| match routes.play.player(1) {
            Speak::HttpFlv(request) => request.text.lines().next().unwrap().to_owned(),
            Speak::RtmpAt(address, config) => {
                format!("{address} {} {:?}", config.app, config.purpose)
            }
            other => panic!("{other:?}"),
        };
        let rtmp = routes.clone().playing_at("rtmp://127.0.0.1:19/watch/show?t=1").unwrap();
        assert_eq!(text(&rtmp), "127.0.0.1:19 watch Play { key: \"show-1?t=1\" }");
        let http = routes.clone().playing_at("http://127.0.0.1/live/show.flv?t=1").unwrap();
        assert_eq!(text(&http), "GET /live/show-1.flv?t=1 HTTP/1.1");
        assert_eq!(http.play.shown(1), "live/show-1");
        let listed = http.with_keys(listed(["a", "b?u=v"]));
        assert_eq!(text(&listed), "GET /live/b.flv?t=1&u=v HTTP/1.1");
        assert!(routes.playing_at("ftp://host/live/show").is_err());
    }

    #[test]
    fn a_list_has_one_key_a_line_and_an_error_names_the_line_and_no_key() {
        assert_eq!(parse_keys("a\r\n\n  b?t=1 \n"), Ok(listed(["a", "b?t=1"])));
        for (text, line) in [("", 1), ("\n\n", 1), ("a\nsecret key\n", 2), ("a\n\nsecret/../b", 3)]
        {
            let (number, reason) = parse_keys(text).unwrap_err();
            assert_eq!(number, line, "{text:?}");
            assert!(!reason.contains("secret"), "{reason}");
        }
    }
}
