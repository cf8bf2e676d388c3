//! `[apps.NAME]`: who may publish in an application.
//!
//! Owns the keys of such a section, in one table that reading, the printed sample and the reload
//! report walk, and the rules for names and secrets in it. What is read here may be secret even
//! where it is wrong, so no error repeats a value: it says of which kind it is.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::field::{self, Choice};
use super::read::{FileText, in_file_order, nearest, one_line, written};
use super::{ChangedKey, ConfigError};
use crate::limits::USER_BYTES_MAX;
use crate::rtmp::auth::{Authmod, Secret};
use crate::rtmp::name::{is_app, is_key};

/// One application. Without keys every key is accepted, without users nobody has to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// The form of login that is asked for; a client that begins with the other one may use it.
    pub authmod: Authmod,
    /// The keys that may be published.
    pub keys: Vec<StreamKey>,
    /// The names of those who may publish, with their passwords.
    pub users: BTreeMap<String, Secret>,
}

impl Default for App {
    fn default() -> Self {
        Self { authmod: Authmod::Adobe, keys: Vec::new(), users: BTreeMap::new() }
    }
}

/// A key that may be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamKey {
    /// What the publisher gives.
    pub secret: Secret,
    /// What players ask for instead; without it they have to know the key.
    pub name: Option<String>,
}

impl Choice for Authmod {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("adobe", Self::Adobe), ("llnw", Self::Llnw)];
}

/// One key of an application's section.
struct AppKey {
    name: &'static str,
    /// Its comment in the sample, each line with its leading space.
    about: &'static [&'static str],
    /// What the sample shows, since the default is that it is not there.
    example: &'static [&'static str],
    read: fn(&mut App, &Place<'_>, &DeValue<'_>) -> Result<(), ConfigError>,
    differs: fn(&App, &App) -> bool,
    /// The value without its secrets.
    show: fn(&App) -> String,
}

const APP_KEYS: &[AppKey] = &[
    AppKey {
        name: "authmod",
        about: &[" The form of login that is asked for: one of adobe, llnw."],
        example: &["authmod = \"adobe\""],
        read: |app, place, value| {
            field::assign(&mut app.authmod, &written(value), &())
                .map_err(|expected| place.wrong(value, expected))
        },
        differs: |old, new| old.authmod != new.authmod,
        show: |app| field::show(&app.authmod),
    },
    AppKey {
        name: "keys",
        about: &[
            " The stream keys that may be published: a list, keys = [\"KEY\"], which players have",
            " to know as well, or a table that gives each key the name that players ask for.",
            " Without keys every key is accepted.",
        ],
        example: &["[apps.live.keys]", "show = \"a key that only the publisher knows\""],
        read: |app, place, value| {
            app.keys = read_keys(place, value)?;
            Ok(())
        },
        differs: |old, new| old.keys != new.keys,
        show: |app| counted(app.keys.len(), "key"),
    },
    AppKey {
        name: "users",
        about: &[
            " Who may publish, with their passwords. Without users nobody has to log in. Playing",
            " needs no login.",
        ],
        example: &["[apps.live.users]", "camera = \"a password\""],
        read: |app, place, value| {
            app.users = read_users(place, value)?;
            Ok(())
        },
        differs: |old, new| old.users != new.users,
        show: |app| counted(app.users.len(), "user"),
    },
];

/// Reads the table `apps`, which stands on a line of a file.
pub(super) fn read(
    file: FileText<'_>,
    line: usize,
    value: &DeValue<'_>,
) -> Result<BTreeMap<String, App>, ConfigError> {
    let place = Place { file, line, key: "apps".into() };
    let expected = || "a section for each application, such as [apps.live]".into();
    let table = value.as_table().ok_or_else(|| place.wrong(value, expected()))?;
    let mut apps = BTreeMap::new();
    for (name, value) in in_file_order(table) {
        let place = place.below(name);
        if !is_app(name.get_ref()) {
            let expected = "an application as a URL has it: no blanks, ? or slashes at its ends";
            return Err(place.wrong_name(name, expected.into()));
        }
        let expected = || format!("a section: a line [{}] and its keys below it", place.key);
        let table = value.get_ref().as_table();
        let table = table.ok_or_else(|| place.wrong(value.get_ref(), expected()))?;
        apps.insert(name.get_ref().to_string(), read_app(&place, table)?);
    }
    Ok(apps)
}

fn read_app(place: &Place<'_>, table: &DeTable<'_>) -> Result<App, ConfigError> {
    let mut app = App::default();
    for (name, value) in in_file_order(table) {
        let place = place.below(name);
        match APP_KEYS.iter().find(|key| key.name == name.get_ref()) {
            Some(key) => (key.read)(&mut app, &place, value.get_ref())?,
            None => return Err(place.unknown(name)),
        }
    }
    Ok(app)
}

fn read_keys(place: &Place<'_>, value: &DeValue<'_>) -> Result<Vec<StreamKey>, ConfigError> {
    let mut keys: Vec<StreamKey> = Vec::new();
    let mut add = |place: &Place<'_>, name: Option<&str>, value: &DeValue<'_>| {
        let secret = value.as_str().filter(|secret| is_key(secret));
        let expected = "a key as a client can send it: a string, not empty, no ?, no blanks or \
                        slashes at its ends";
        let secret = secret.ok_or_else(|| place.wrong(value, expected.into()))?;
        if keys.iter().any(|key| key.secret.is(secret)) {
            return Err(place.wrong(value, "a key that no other stream has".into()));
        }
        keys.push(StreamKey { secret: Secret::new(secret), name: name.map(str::to_owned) });
        Ok(())
    };
    match value {
        DeValue::Array(items) => {
            for item in items {
                let line = place.file.line_of(item.span().start);
                add(&Place { line, key: place.key.clone(), ..*place }, None, item.get_ref())?;
            }
        }
        DeValue::Table(table) => {
            for (name, value) in in_file_order(table) {
                let place = place.below(name);
                if !is_key(name.get_ref()) {
                    let expected = "a stream name that players can ask for: not empty, no ?, no \
                                    blanks or slashes at its ends";
                    return Err(place.wrong_name(name, expected.into()));
                }
                add(&place, Some(name.get_ref()), value.get_ref())?;
            }
        }
        _ => {
            let expected = "a list of keys, or a table NAME = \"KEY\"";
            return Err(place.wrong(value, expected.into()));
        }
    }
    // To accept every key by a list that happens to be empty would be a trap.
    if keys.is_empty() {
        return Err(place.wrong(value, "at least one key, or no line at all to take any".into()));
    }
    Ok(keys)
}

fn read_users(
    place: &Place<'_>,
    value: &DeValue<'_>,
) -> Result<BTreeMap<String, Secret>, ConfigError> {
    let expected = || "a table NAME = \"PASSWORD\"".into();
    let table = value.as_table().ok_or_else(|| place.wrong(value, expected()))?;
    let mut users = BTreeMap::new();
    for (name, value) in in_file_order(table) {
        let place = place.below(name);
        if !is_user(name.get_ref()) {
            let expected = format!(
                "a user name of at most {USER_BYTES_MAX} bytes without blanks and & ? / : ="
            );
            return Err(place.wrong_name(name, expected));
        }
        let password = value.get_ref().as_str().filter(|password| !password.is_empty());
        let expected = || "a password: a string that is not empty".into();
        let password = password.ok_or_else(|| place.wrong(value.get_ref(), expected()))?;
        users.insert(name.get_ref().to_string(), Secret::new(password));
    }
    if users.is_empty() {
        return Err(place.wrong(value, "at least one user, or no table at all".into()));
    }
    Ok(users)
}

/// Clients send a name as it is, in a query and in a URL.
fn is_user(name: &str) -> bool {
    let ends_it = |c: char| "&?/:=".contains(c) || c.is_whitespace() || c.is_control();
    (1..=USER_BYTES_MAX).contains(&name.len()) && !name.contains(ends_it)
}

/// What a reload changes, without the secrets.
pub(super) fn changes(old: &BTreeMap<String, App>, new: &BTreeMap<String, App>) -> Vec<ChangedKey> {
    let added = new.keys().filter(|name| !old.contains_key(*name));
    let none = App::default();
    let mut changes = Vec::new();
    for name in old.keys().chain(added) {
        let (old, new) = (old.get(name).unwrap_or(&none), new.get(name).unwrap_or(&none));
        for key in APP_KEYS.iter().filter(|key| (key.differs)(old, new)) {
            changes.push(ChangedKey {
                key: join(&join("apps", name), key.name),
                old: (key.show)(old),
                new: (key.show)(new),
            });
        }
    }
    changes
}

/// Writes an example: there is no application that everybody has.
pub(super) fn sample(out: &mut String) {
    out.push_str(SAMPLE_HEAD);
    for key in APP_KEYS {
        out.push_str("#\n");
        for line in key.about {
            out.push_str(&format!("##{line}\n"));
        }
        for line in key.example {
            out.push_str(&format!("#{line}\n"));
        }
    }
}

const SAMPLE_HEAD: &str = "
# Who may publish in an application; without such a section anybody may. Take a # away from the
# beginning of each line that you want.
#
#[apps.live]
";

fn counted(count: usize, what: &str) -> String {
    match count {
        0 => "none".into(),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// A key of the file with all that stands before it, quoted where TOML wants it.
fn join(above: &str, name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(is_bare) {
        format!("{above}.{name}")
    } else {
        format!("{above}.\"{}\"", one_line(name))
    }
}

/// Where something stands in a file.
struct Place<'a> {
    file: FileText<'a>,
    line: usize,
    key: String,
}

impl Place<'_> {
    /// The place of a key below this one.
    fn below(&self, name: &Spanned<DeString<'_>>) -> Self {
        let line = self.file.line_of(name.span().start);
        Self { line, key: join(&self.key, name.get_ref()), ..*self }
    }

    fn wrong(&self, value: &DeValue<'_>, expected: String) -> ConfigError {
        self.error(kind_of(value).into(), expected)
    }

    fn wrong_name(&self, name: &Spanned<DeString<'_>>, expected: String) -> ConfigError {
        self.error(format!("the name \"{}\"", one_line(name.get_ref())), expected)
    }

    fn error(&self, got: String, expected: String) -> ConfigError {
        let (file, line, key) = (self.file.name.into(), self.line, self.key.clone());
        ConfigError::FileValue { file, line, key, got, expected }
    }

    fn unknown(&self, name: &Spanned<DeString<'_>>) -> ConfigError {
        let valid: Vec<_> = APP_KEYS.iter().map(|key| key.name).collect();
        ConfigError::UnknownKey {
            file: self.file.name.into(),
            line: self.line,
            key: self.key.clone(),
            near: nearest(name.get_ref(), &valid),
            valid,
        }
    }
}

const fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn settings(text: &str) -> Result<Settings, ConfigError> {
        Settings::read(Some(FileText { name: "t.toml", text }), &[])
    }

    fn error_line(text: &str) -> String {
        settings(text).expect_err(text).to_string()
    }

    #[test]
    fn keys_and_users_are_read_by_application() {
        let text = "[apps.live]\nauthmod = \"llnw\"\nkeys = [\"one\", \"a/b\"]\n\
             [apps.live.users]\nbob = \"s3cret\"\n\"al@home\" = ' '\n\
             [apps.\"tv/eu\".keys]\nnews = \"k1\"\n[apps.open]\n";
        let apps = settings(text).unwrap().apps;
        assert_eq!(apps.keys().collect::<Vec<_>>(), ["live", "open", "tv/eu"]);
        let key = |secret, name: Option<&str>| StreamKey {
            secret: Secret::new(secret),
            name: name.map(str::to_owned),
        };
        assert_eq!(apps["live"].keys, [key("one", None), key("a/b", None)]);
        assert_eq!(apps["live"].authmod, Authmod::Llnw);
        assert!(apps["live"].users["bob"].is("s3cret") && apps["live"].users["al@home"].is(" "));
        assert_eq!(apps["tv/eu"].keys, [key("k1", Some("news"))]);
        assert_eq!(apps["open"], App::default());
    }

    #[test]
    fn every_mistake_is_one_line_with_place_key_and_remedy_and_no_secret() {
        const CASES: &[(&str, &str)] = &[
            (
                "apps = \"hush\"",
                "1: key \"apps\": got a string, \
                 expected a section for each application, such as [apps.live]",
            ),
            (
                "[apps]\nlive = [\"hush\"]",
                "2: key \"apps.live\": got a list, \
                 expected a section: a line [apps.live] and its keys below it",
            ),
            (
                "[apps.\"live/\"]",
                "1: key \"apps.\"live/\"\": got the name \"live/\", \
                 expected an application as a URL has it: no blanks, ? or slashes at its ends",
            ),
            (
                "[apps.live]\nkey = [\"hush\"]",
                "2: unknown key \"apps.live.key\"; did you mean \"keys\"?",
            ),
            (
                "[apps.live]\npassword = \"hush\"",
                "2: unknown key \"apps.live.password\", expected one of authmod, keys, users",
            ),
            (
                "[apps.live]\nauthmod = \"digest\"",
                "2: key \"apps.live.authmod\": got a string, expected one of adobe, llnw",
            ),
            (
                "[apps.live]\nkeys = \"hush\"",
                "2: key \"apps.live.keys\": got a string, \
                 expected a list of keys, or a table NAME = \"KEY\"",
            ),
            (
                "[apps.live]\nkeys = [\"hush\",\n5]",
                "3: key \"apps.live.keys\": got an integer, expected a key as a client can send \
                 it: a string, not empty, no ?, no blanks or slashes at its ends",
            ),
            (
                "[apps.live.keys]\nshow = \"hush?\"",
                "2: key \"apps.live.keys.show\": got a string, expected a key as a client can \
                 send it: a string, not empty, no ?, no blanks or slashes at its ends",
            ),
            (
                "[apps.live.keys]\na = \"hush\"\n\nb = \"hush\"",
                "4: key \"apps.live.keys.b\": got a string, \
                 expected a key that no other stream has",
            ),
            (
                "[apps.live.keys]\n\"a?b\" = \"hush\"",
                "2: key \"apps.live.keys.\"a?b\"\": got the name \"a?b\", expected a stream name \
                 that players can ask for: not empty, no ?, no blanks or slashes at its ends",
            ),
            (
                "[apps.live]\nkeys = []",
                "2: key \"apps.live.keys\": got a list, \
                 expected at least one key, or no line at all to take any",
            ),
            (
                "[apps.live]\nusers = [\"hush\"]",
                "2: key \"apps.live.users\": got a list, expected a table NAME = \"PASSWORD\"",
            ),
            (
                "[apps.live.users]\n\n\"a&b\" = \"hush\"",
                "3: key \"apps.live.users.\"a&b\"\": got the name \"a&b\", expected a user name of \
                 at most 64 bytes without blanks and & ? / : =",
            ),
            (
                "[apps.live.users]\nbob = \"\"",
                "2: key \"apps.live.users.bob\": got a string, \
                 expected a password: a string that is not empty",
            ),
            (
                "[apps.live.users]\nann = \"hush\"\nbob = 5",
                "3: key \"apps.live.users.bob\": got an integer, \
                 expected a password: a string that is not empty",
            ),
            (
                "[apps.live.users]",
                "1: key \"apps.live.users\": got a table, \
                 expected at least one user, or no table at all",
            ),
            ("[app.live]\nkeys = [\"hush\"]", "1: unknown key \"app\"; did you mean \"apps\"?"),
        ];
        for (text, expected) in CASES {
            assert_eq!(error_line(text), format!("t.toml:{expected}"));
        }
    }

    #[test]
    fn broken_syntax_shows_no_secret_either() {
        for text in [
            "[apps.live]\nkeys = [\"hush\"",
            "[apps.live]\nkeys = [\"hush]",
            "[apps.live]\nkeys = hush",
            "[apps.live]\nkeys = [\"x\"] hush",
            "[apps.live.users]\nbob = \"\\hush\"",
            "[apps.live.users]\nbob = 'x'hush",
            "[apps.live.users]\nbob = \"x\"\nbob = \"hush\"",
            "[apps.live.users]\nbob : hush",
        ] {
            let line = error_line(text);
            assert!(!line.contains("hush"), "{line}");
        }
    }

    #[test]
    fn users_are_named_so_that_every_client_can_send_it() {
        let longest = "u".repeat(USER_BYTES_MAX);
        for (name, right) in [
            ("bob", true),
            ("bob@example.org", true),
            ("söan-1.2_3", true),
            (&*longest, true),
            (&*format!("{longest}u"), false),
            ("", false),
            ("a b", false),
            ("a\tb", false),
            ("a/b", false),
            ("a:b", false),
            ("a=b", false),
            ("a?b", false),
        ] {
            assert_eq!(is_user(name), right, "{name:?}");
        }
    }

    #[test]
    fn reload_says_what_changed_and_no_secret() {
        let old = "[apps.live]\nkeys = [\"hush1\"]\n[apps.live.users]\nbob = \"hush2\"\n\
             [apps.gone.users]\nann = \"hush3\"\n";
        let new = "[apps.live]\nkeys = [\"hush4\", \"hush5\"]\n[apps.live.users]\nbob = \"hush6\"\n\
             [apps.\"a/b\"]\nauthmod = \"llnw\"\n";
        let (old, new) = (settings(old).unwrap(), settings(new).unwrap());
        let changes: Vec<_> = old.changed_live(&new).iter().map(ToString::to_string).collect();
        assert_eq!(
            changes,
            [
                "apps.gone.users 1 user -> none",
                "apps.live.keys 1 key -> 2 keys",
                "apps.live.users changed",
                "apps.\"a/b\".authmod \"adobe\" -> \"llnw\"",
            ]
        );
        assert!(old.changed_live(&old).is_empty());
        assert!(old.changed_at_restart_only(&new).is_empty());
        assert!(!format!("{old:?}").contains("hush"));
    }

    #[test]
    fn sample_names_every_key_and_reads_when_the_marks_are_taken_away() {
        let mut sample = String::new();
        super::sample(&mut sample);
        let text: String = sample
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .filter(|line| !line.starts_with(' '))
            .map(|line| format!("{line}\n"))
            .collect();
        let app = &settings(&text).unwrap().apps["live"];
        for key in APP_KEYS {
            assert!(text.contains(key.name), "{}", key.name);
        }
        assert_eq!((app.keys.len(), app.users.len()), (1, 1));
    }
}
