//! Access rules: the users and stream keys that may publish, and the secret parts of stream names.
//!
//! Owns the rules of `[apps]`. They apply to the canonical name of a stream, so that no other split
//! of a URL into application and key evades them. It keeps no state of a connection: a connection
//! that has logged in holds a [`LoggedIn`].

use super::Refused;
use crate::config::{App, StreamKey};
use crate::limits::{CHALLENGE_PERIOD_MS, USER_BYTES_MAX};
use crate::rtmp::auth::{Authmod, Challenger, Login, Secret};
use crate::rtmp::session::ConnectRequest;
use crate::server::reason::CloseReason;
use crate::text::Escaped;
use crate::time::Time;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The access rules. See the module's head.
#[derive(Debug)]
pub struct Access {
    apps: BTreeMap<String, App>,
    challenger: Challenger,
    /// Names of streams whose keys a reload has removed. The log still hides them.
    retired: BTreeSet<String>,
}

/// Proof that a connection has logged in.
#[derive(Debug, PartialEq, Eq)]
pub struct LoggedIn {
    app: String,
    /// The user whose password was proved.
    pub user: String,
}

impl Access {
    /// Creates the rules for these applications.
    pub const fn new(apps: BTreeMap<String, App>, challenger: Challenger) -> Self {
        Self { apps, challenger, retired: BTreeSet::new() }
    }

    /// Returns the rules for other applications after a reload. They remember the removed keys.
    pub fn replaced_by(&mut self, apps: BTreeMap<String, App>) -> Self {
        let mut retired = std::mem::take(&mut self.retired);
        for (name, app) in &self.apps {
            retired.extend(app.keys.iter().map(|key| joined(name, key.secret.expose())));
        }
        Self { apps, challenger: self.challenger.clone(), retired }
    }

    /// Returns the name of a run of a stream, which nobody can guess. Each run has a number of its
    /// own.
    pub fn run_name(&self, number: u64) -> u64 {
        self.challenger.unguessable(number)
    }

    /// Decides about a `connect`, and returns the login if it has one. Only encoders are
    /// challenged: players never need a login.
    ///
    /// # Errors
    /// [`Refused`] with the next step of the login, or because the login is wrong.
    pub fn connect(
        &self,
        request: &ConnectRequest,
        now: Time,
    ) -> Result<Option<LoggedIn>, Refused> {
        let Some((app_name, app)) = self.governing_path(request.app().path()) else {
            return Ok(None);
        };
        match request.login() {
            _ if app.users.is_empty() => Ok(None),
            Some(login) => self.log_in(app_name, app, login, now).map(Some),
            None if request.is_encoder() => Err(Refused::asked_for_user(app.authmod)),
            None => Ok(None),
        }
    }

    /// Decides about one step of a login. An unknown user is challenged like any other, and takes
    /// as long to refuse, so that names cannot be guessed.
    fn log_in(
        &self,
        app_name: &str,
        app: &App,
        login: &Login,
        now: Time,
    ) -> Result<LoggedIn, Refused> {
        let Login { authmod, user, .. } = login;
        let known = app.users.get(user);
        let period = now.as_micros() / (CHALLENGE_PERIOD_MS * 1000);
        let challenge = |period| self.challenger.challenge(*authmod, app_name, user, period);
        if user.is_empty() {
            return Err(Refused::asked_for_user(*authmod));
        }
        if !login.has_proof() && user.len() <= USER_BYTES_MAX {
            return Err(Refused {
                reason: CloseReason::LoginBegun,
                detail: "asked for a proof".into(),
                description: authmod.asks_for_proof(user, &challenge(period)),
            });
        }
        let nobody = Secret::new("");
        let password = known.unwrap_or(&nobody);
        // Both periods are always tried, so that the time does not reveal the one of the challenge.
        let proved = [period, period.saturating_sub(1)]
            .map(|period| login.proves(password, &challenge(period)));
        if known.is_some() && proved.contains(&true) {
            return Ok(LoggedIn { app: app_name.to_owned(), user: user.clone() });
        }
        Err(Refused {
            reason: CloseReason::LoginFailed,
            // An unknown user name is not logged: it may be a password in the wrong field.
            detail: match known {
                Some(_) => format!("wrong password of {}", Escaped(user.as_bytes())),
                None => "no such user".into(),
            },
            description: authmod.fails(),
        })
    }

    /// Decides about a publish. Returns the name by which players know the stream.
    ///
    /// # Errors
    /// [`Refused`] without the login or the stream key that the application requires.
    pub fn publish<'n>(
        &self,
        name: &'n str,
        logged_in: Option<&LoggedIn>,
    ) -> Result<Cow<'n, str>, Refused> {
        let Some((app_name, app, key)) = self.governing_stream(name) else {
            return Ok(Cow::Borrowed(name));
        };
        let is_user = |l: &LoggedIn| l.app == app_name && app.users.contains_key(&l.user);
        if !app.users.is_empty() && !logged_in.is_some_and(is_user) {
            let text = "a user and a password are required to publish here";
            return Err(Refused::told(CloseReason::LoginFailed, text));
        }
        if app.keys.is_empty() {
            return Ok(Cow::Borrowed(name));
        }
        match find_key(&app.keys, key) {
            Some(StreamKey { name: Some(name), .. }) => Ok(joined(app_name, name).into()),
            Some(_) => Ok(Cow::Borrowed(name)),
            None => Err(Refused::told(CloseReason::KeyRefused, "no such stream key here")),
        }
    }

    /// Returns the public name of the stream that a player asks for by its key or by its name.
    pub fn play<'n>(&self, name: &'n str) -> Cow<'n, str> {
        match self.governing_stream(name) {
            Some((app_name, app, key)) if !is_public(app, key) => {
                let public = find_key(&app.keys, key).and_then(|found| found.name.as_deref());
                public.map_or(Cow::Borrowed(name), |public| joined(app_name, public).into())
            }
            _ => Cow::Borrowed(name),
        }
    }

    /// Returns the name of a stream for a log, without its key.
    pub fn shown<'a>(&'a self, name: &'a str) -> ShownName<'a> {
        let hidden = match self.governing_stream(name) {
            Some((_, app, key)) if is_public(app, key) => None,
            Some((app_name, app, _)) if !app.keys.is_empty() => Some(app_name),
            _ => self.retired.contains(name).then(|| name.split('/').next()).flatten(),
        };
        ShownName { name, hidden }
    }

    /// Returns the path of a `connect` for a log. Its last part may be a key.
    pub fn shown_path<'a>(&'a self, path: &'a str) -> ShownName<'a> {
        let is_app = self.apps.contains_key(path);
        if is_app { ShownName { name: path, hidden: None } } else { self.shown(path) }
    }

    /// Returns the application whose rules apply to a stream, and the key. The most specific
    /// section wins.
    fn governing_stream<'n>(&self, name: &'n str) -> Option<(&str, &App, &'n str)> {
        if self.apps.is_empty() {
            return None;
        }
        name.rmatch_indices('/').find_map(|(at, _)| {
            let (app_name, app) = self.apps.get_key_value(&name[..at])?;
            Some((app_name.as_str(), app, &name[at + 1..]))
        })
    }

    /// Returns the application whose rules apply to the path of a `connect`.
    fn governing_path(&self, path: &str) -> Option<(&str, &App)> {
        let exactly = self.apps.get_key_value(path).map(|(name, app)| (name.as_str(), app));
        exactly.or_else(|| self.governing_stream(path).map(|(name, app, _)| (name, app)))
    }
}

impl LoggedIn {
    /// Memory including this struct (bytes).
    pub(in crate::server) const fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.app.capacity() + self.user.capacity()
    }

    /// Returns the end of a log line about a publish, such as ` as bob`. Empty without a login.
    pub fn as_user(logged_in: Option<&Self>) -> String {
        logged_in.map_or_else(String::new, |l| format!(" as {}", Escaped(l.user.as_bytes())))
    }
}

impl Refused {
    fn asked_for_user(authmod: Authmod) -> Self {
        let description = authmod.asks_for_user();
        Self { reason: CloseReason::LoginBegun, detail: "asked for a user".into(), description }
    }
}

/// The name of a stream for a log, without a secret key.
#[derive(Clone, Copy, Debug)]
pub struct ShownName<'a> {
    name: &'a str,
    /// The application, if the key is hidden.
    hidden: Option<&'a str>,
}

impl fmt::Display for ShownName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hidden {
            Some(app) => write!(f, "{}/…", Escaped(app.as_bytes())),
            None => Escaped(self.name.as_bytes()).fmt(f),
        }
    }
}

/// Returns the entry with this key. Compares all keys, so that the time does not reveal a match.
fn find_key<'a>(keys: &'a [StreamKey], key: &str) -> Option<&'a StreamKey> {
    keys.iter().fold(
        None,
        |found, candidate| {
            if candidate.secret.is(key) { Some(candidate) } else { found }
        },
    )
}

/// Returns whether `key` is the public name of a stream key.
fn is_public(app: &App, key: &str) -> bool {
    app.keys.iter().any(|candidate| candidate.name.as_deref() == Some(key))
}

fn joined(app: &str, key: &str) -> String {
    format!("{app}/{key}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FileText, Settings};

    fn apps(text: &str) -> BTreeMap<String, App> {
        Settings::read(Some(FileText { name: "t.toml", text }), &[]).unwrap().apps
    }

    fn access(text: &str) -> Access {
        Access::new(apps(text), Challenger::new([7; 32]))
    }

    #[test]
    fn names_are_shown_without_what_is_or_may_be_a_key() {
        let access = access(
            "[apps.listed]\nkeys = [\"k1\", \"a/b\"]\n[apps.named.keys]\nshow = \"k2\"\n\
             [apps.users.users]\nbob = \"pw\"\n[apps.\"listed/open\"]\nkeys = \"any\"\n",
        );
        for (name, shown) in [
            ("listed/k1", "listed/…"),
            ("listed/k", "listed/…"),
            ("listed/a/b", "listed/…"),
            ("listed/a", "listed/…"),
            ("listed/open/x", "listed/open/x"),
            ("named/show", "named/show"),
            ("named/k2", "named/…"),
            ("named/shown", "named/…"),
            ("users/show", "users/show"),
            ("other/k1", "other/k1"),
            ("listed", "listed"),
            ("x\ny", "x\\ny"),
            ("", ""),
        ] {
            assert_eq!(access.shown(name).to_string(), shown, "{name}");
        }
        assert_eq!(access.shown_path("listed/open").to_string(), "listed/open");
        assert_eq!(access.shown_path("listed/a").to_string(), "listed/…");
        assert_eq!(access.shown_path("listed").to_string(), "listed");
    }

    #[test]
    fn keys_that_a_reload_takes_away_stay_out_of_the_log() {
        let mut access = access("[apps.live.keys]\nshow = \"k1\"\n");
        for text in ["[apps.live]\nkeys = [\"k2\"]\n", "", "[apps.other]\nkeys = \"any\"\n"] {
            access = access.replaced_by(apps(text));
            assert_eq!(access.shown("live/k1").to_string(), "live/…", "{text}");
        }
        assert_eq!(access.shown("live/k2").to_string(), "live/…");
        assert_eq!(access.shown("live/k3").to_string(), "live/k3");
    }

    #[test]
    fn a_login_of_one_application_does_not_count_in_another() {
        let access = access("[apps.live.users]\nbob = \"pw\"\n[apps.tv.users]\nbob = \"pw\"\n");
        for (app, name, granted) in
            [("live", "live/x", true), ("tv", "live/x", false), ("live", "tv/x", false)]
        {
            let bob = LoggedIn { app: app.into(), user: "bob".into() };
            let published = access.publish(name, Some(&bob));
            assert_eq!(published.is_ok(), granted, "{app}: {published:?}");
        }
    }

    #[test]
    fn a_line_about_a_refusal_names_no_secret() {
        let access = access("[apps.live]\nkeys = [\"k1\"]\n[apps.live.users]\nbob = \"pw\"\n");
        let bob = LoggedIn { app: "live".into(), user: "bob".into() };
        let ann = LoggedIn { user: "ann".into(), app: "live".into() };
        let elsewhere = LoggedIn { app: "tv".into(), user: "bob".into() };
        for (name, logged_in, reason) in [
            ("live/k2", Some(&bob), CloseReason::KeyRefused),
            ("live/k1", Some(&ann), CloseReason::LoginFailed),
            ("live/k1", Some(&elsewhere), CloseReason::LoginFailed),
            ("live/k1", None, CloseReason::LoginFailed),
        ] {
            let refused = access.publish(name, logged_in).unwrap_err();
            assert_eq!(refused.reason, reason);
            assert!(!refused.detail.contains("k1") && !refused.detail.contains("k2"));
        }
        assert_eq!(access.publish("live/k1", Some(&bob)).as_deref(), Ok("live/k1"));
        assert!(!format!("{access:?}").contains("pw"));
    }
}
