//! Access rules of applications (`[apps.NAME]`): stream keys and users.
//!
//! Owns the keys of such a section in one table. Reading, the printed sample, the report of a
//! reload and its guard all walk that table. Even an invalid value here may be a secret, so errors
//! name its kind and never repeat it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::ChangedKey;
use super::error::ConfigError;
use super::field::{self, Choice};
use super::settings_reader::{
    ERRORS_MAX, FileText, in_file_order, join, nearest, one_line, written,
};
use crate::limits::USER_BYTES_MAX;
use crate::rtmp::auth::{Authmod, Secret};
use crate::rtmp::name::{is_app, is_key};

/// One application. A rule is in force if its key has values. The file releases a rule with
/// `keys = "any"` or `users = "any"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// The form of login that clients are asked for. A client may begin with the other form.
    pub authmod: Authmod,
    /// The stream keys that publishers may use; empty if every key is accepted.
    pub keys: Vec<StreamKey>,
    /// The users that may publish, with their passwords; empty if no login is needed.
    pub users: BTreeMap<String, Secret>,
    /// The rules that the file releases with the word `any`.
    released: BTreeSet<&'static str>,
}

impl App {
    /// Returns every key with its value. Secrets are replaced by their number.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, String)> {
        APP_KEYS.iter().map(|key| (key.name, (key.show)(self)))
    }

    /// Returns true if the section has a rule or releases one.
    fn has_rule(&self) -> bool {
        !self.released.is_empty() || rules().any(|(_, rule)| (rule.in_force)(self))
    }
}

impl Default for App {
    fn default() -> Self {
        Self {
            authmod: Authmod::Adobe,
            keys: Vec::new(),
            users: BTreeMap::new(),
            released: BTreeSet::new(),
        }
    }
}

/// A stream key that publishers may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamKey {
    /// The key of the publisher.
    pub secret: Secret,
    /// The name that players use. Without a name they need the key.
    pub name: Option<String>,
}

impl Choice for Authmod {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("adobe", Self::Adobe), ("llnw", Self::Llnw)];
}

/// A key in the section of an application.
struct AppKey {
    name: &'static str,
    /// Its comment in the sample, each line with its leading space.
    about: &'static [&'static str],
    /// Example in the sample. There is no default to print.
    example: &'static [&'static str],
    /// Reads the value. Mistakes are appended to the errors.
    read: fn(&mut App, &Place<'_>, &DeValue<'_>, &mut Vec<ConfigError>),
    differs: fn(&App, &App) -> bool,
    /// Returns the value without its secrets.
    show: fn(&App) -> String,
    /// The access rule, if the key is one. A reload does not remove a rule by mistake.
    rule: Option<Rule>,
}

/// An access rule of an application.
struct Rule {
    in_force: fn(&App) -> bool,
    /// Effect of releasing the rule. It follows the word "to".
    released: &'static str,
}

/// Word in place of the values of an access rule. It releases the rule.
const ANY: &str = "any";

const APP_KEYS: &[AppKey] = &[
    AppKey {
        name: "authmod",
        about: &[" The form of login that clients are asked for: one of adobe, llnw."],
        example: &["authmod = \"adobe\""],
        read: |app, place, value, errors| {
            if let Err(wrong) = field::assign(&mut app.authmod, &written(value), &()) {
                errors.extend(wrong.into_iter().map(|wrong| place.wrong(value, wrong.expected)));
            }
        },
        differs: |old, new| old.authmod != new.authmod,
        show: |app| field::show(&app.authmod),
        rule: None,
    },
    AppKey {
        name: "keys",
        about: &[
            " The stream keys that publishers may use. In a list, keys = [\"KEY\"], players need",
            " the same key. In a table, each key has a name, and players use the name.",
            " keys = \"any\" accepts every key.",
        ],
        example: &["[apps.live.keys]", "show = \"a key that only the publisher knows\""],
        read: |app, place, value, errors| app.keys = read_keys(place, value, errors),
        differs: |old, new| old.keys != new.keys,
        show: |app| counted(app.keys.len(), "key"),
        rule: Some(Rule { in_force: |app| !app.keys.is_empty(), released: "accept every key" }),
    },
    AppKey {
        name: "users",
        about: &[
            " The users that may publish, with their passwords. Without users, or with",
            " users = \"any\", publishers need no login. Players never need one.",
        ],
        example: &["[apps.live.users]", "camera = \"a password\""],
        read: |app, place, value, errors| app.users = read_users(place, value, errors),
        differs: |old, new| old.users != new.users,
        show: |app| counted(app.users.len(), "user"),
        rule: Some(Rule {
            in_force: |app| !app.users.is_empty(),
            released: "let publishers in without a login",
        }),
    },
];

/// Returns every access rule with its key.
fn rules() -> impl Iterator<Item = (&'static AppKey, &'static Rule)> {
    APP_KEYS.iter().filter_map(|key| Some((key, key.rule.as_ref()?)))
}

/// Reads the table `apps` at a position of a file. Mistakes are appended to `errors`.
pub(super) fn read(
    file: FileText<'_>,
    offset: usize,
    value: &DeValue<'_>,
    errors: &mut Vec<ConfigError>,
) -> BTreeMap<String, App> {
    let place = Place { file, offset, key: "apps".into() };
    let mut apps = BTreeMap::new();
    let Some(table) = value.as_table() else {
        let expected = "a section for each application, such as [apps.live]";
        errors.push(place.wrong(value, expected.into()));
        return apps;
    };
    for (name, value) in in_file_order(table) {
        if errors.len() >= ERRORS_MAX {
            break;
        }
        let (place, errors_before) = (place.below(name), errors.len());
        if !is_app(name.get_ref()) {
            let expected = "an application as in a URL: no ?, no blanks or slashes at its ends, \
                            nothing that is removed from names (%20, mp4:)";
            errors.push(place.wrong_name(name, expected.into()));
        }
        match value.get_ref().as_table() {
            Some(table) => {
                let app = read_app(&place, table, errors);
                if !app.has_rule() && errors.len() == errors_before {
                    errors.push(place.error("no access rule".into(), rule_expected()));
                }
                apps.insert(name.get_ref().to_string(), app);
            }
            None => {
                let expected = format!("a section: a line [{}] and its keys below it", place.key);
                errors.push(place.wrong(value.get_ref(), expected));
            }
        }
    }
    apps
}

fn read_app(place: &Place<'_>, table: &DeTable<'_>, errors: &mut Vec<ConfigError>) -> App {
    let mut app = App::default();
    for (name, value) in in_file_order(table) {
        let (place, value) = (place.below(name), value.get_ref());
        match APP_KEYS.iter().find(|key| key.name == name.get_ref()) {
            Some(key) if key.rule.is_some() && value.as_str() == Some(ANY) => {
                app.released.insert(key.name);
            }
            Some(key) => (key.read)(&mut app, &place, value, errors),
            None => errors.push(place.unknown(name)),
        }
    }
    app
}

/// Returns the remedy for a section without a rule. That is an error, because a section that was
/// cut short must not open the application.
fn rule_expected() -> String {
    let names: Vec<_> = rules().map(|(key, _)| key.name).collect();
    let first = names.first().unwrap_or(&"");
    let rules = names.join(" or ");
    format!("{rules} below it, or {first} = \"{ANY}\" if anyone may publish there")
}

fn read_keys(
    place: &Place<'_>,
    value: &DeValue<'_>,
    errors: &mut Vec<ConfigError>,
) -> Vec<StreamKey> {
    let mut reader = KeyReader { keys: Vec::new(), seen: HashSet::new(), errors };
    match value {
        // An empty list is an error: it may be a mistake, and must not accept every key.
        DeValue::Array(items) if items.is_empty() => reader.none(place, value),
        DeValue::Table(table) if table.is_empty() => reader.none(place, value),
        DeValue::Array(items) => {
            for item in items {
                let (offset, key) = (item.span().start, place.key.clone());
                let place = Place { offset, key, ..*place };
                reader.read(&place, None, item.get_ref());
            }
        }
        DeValue::Table(table) => {
            for (name, value) in in_file_order(table) {
                let place = place.below(name);
                if !is_key(name.get_ref()) {
                    let expected = "a stream name that players can request: not empty, no ?, no \
                                    blanks or slashes at its ends, nothing that is removed from \
                                    names (%20, mp4:, .flv)";
                    reader.errors.push(place.wrong_name(name, expected.into()));
                }
                reader.read(&place, Some(name.get_ref()), value.get_ref());
            }
        }
        _ => {
            let expected = format!("a list of keys, a table NAME = \"KEY\", or \"{ANY}\"");
            reader.errors.push(place.wrong(value, expected));
        }
    }
    reader.keys
}

/// Reader of the keys of one application.
struct KeyReader<'v, 'e> {
    keys: Vec<StreamKey>,
    /// The keys so far. Comparing each key with all before it is rejected: a list may be long, and
    /// a reload blocks the loop.
    seen: HashSet<&'v str>,
    errors: &'e mut Vec<ConfigError>,
}

impl<'v> KeyReader<'v, '_> {
    fn none(&mut self, place: &Place<'_>, value: &DeValue<'_>) {
        let expected = format!("at least one key, or keys = \"{ANY}\" to accept every key");
        self.errors.push(place.wrong(value, expected));
    }

    fn read(&mut self, place: &Place<'_>, name: Option<&str>, value: &'v DeValue<'_>) {
        let Some(secret) = value.as_str().filter(|secret| is_key(secret)) else {
            let expected = "a key that a client can send: a string, not empty, no ?, no blanks or \
                            slashes at its ends, nothing that is removed from names (%20, mp4:, \
                            .flv)";
            return self.errors.push(place.wrong(value, expected.into()));
        };
        if !self.seen.insert(secret) {
            let expected = "a key that no other stream has".into();
            return self.errors.push(place.wrong(value, expected));
        }
        self.keys.push(StreamKey { secret: Secret::new(secret), name: name.map(str::to_owned) });
    }
}

fn read_users(
    place: &Place<'_>,
    value: &DeValue<'_>,
    errors: &mut Vec<ConfigError>,
) -> BTreeMap<String, Secret> {
    let mut users = BTreeMap::new();
    let Some(table) = value.as_table() else {
        let expected = format!("a table NAME = \"PASSWORD\", or \"{ANY}\"");
        errors.push(place.wrong(value, expected));
        return users;
    };
    if table.is_empty() {
        let expected = format!("at least one user, or users = \"{ANY}\" to need no login");
        errors.push(place.wrong(value, expected));
    }
    for (name, value) in in_file_order(table) {
        let place = place.below(name);
        if !is_user(name.get_ref()) {
            let expected = format!(
                "a user name of at most {USER_BYTES_MAX} bytes without blanks and & ? / : ="
            );
            errors.push(place.wrong_name(name, expected));
        }
        match value.get_ref().as_str().filter(|password| !password.is_empty()) {
            Some(password) => {
                users.insert(name.get_ref().to_string(), Secret::new(password));
            }
            None => {
                let expected = "a password: a string that is not empty".into();
                errors.push(place.wrong(value.get_ref(), expected));
            }
        }
    }
    users
}

/// An access rule that is in force, and that new settings neither have nor release.
pub(super) struct Lost {
    pub(super) key: String,
    /// The rule without its secrets.
    pub(super) in_force: String,
    pub(super) remedy: String,
}

/// Returns the access rules that would be lost if `new` replaced `old`. For the path of each
/// section in either of them, it compares the rules that apply before and after.
pub(super) fn lost(old: &BTreeMap<String, App>, new: &BTreeMap<String, App>) -> Vec<Lost> {
    let mut lost = Vec::new();
    let paths: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for path in paths {
        let Some(old) = governing(old, path) else { continue };
        let new = governing(new, path);
        for (key, rule) in rules().filter(|(_, rule)| (rule.in_force)(old)) {
            let holds = |new: &App| (rule.in_force)(new) || new.released.contains(key.name);
            if !new.is_some_and(holds) {
                let section = join("apps", path);
                lost.push(Lost {
                    key: join(&section, key.name),
                    in_force: (key.show)(old),
                    remedy: format!(
                        "write {} = \"{ANY}\" in [{section}] to {}",
                        key.name, rule.released
                    ),
                });
            }
        }
    }
    lost
}

/// Returns the section whose rules apply to a path: the most specific one.
fn governing<'a>(apps: &'a BTreeMap<String, App>, path: &str) -> Option<&'a App> {
    let above = path.rmatch_indices('/').map(|(at, _)| &path[..at]);
    std::iter::once(path).chain(above).find_map(|path| apps.get(path))
}

/// Returns true if `name` is a valid user name. Clients do not escape it, and send it in a query
/// and in a URL.
fn is_user(name: &str) -> bool {
    let ends_it = |c: char| "&?/:=".contains(c) || c.is_whitespace() || c.is_control();
    (1..=USER_BYTES_MAX).contains(&name.len()) && !name.contains(ends_it)
}

/// Returns the changes of a reload, without secrets.
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

/// Appends an example section, because no application has defaults.
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
# Access rules of an application. Anyone may publish in an application without a section. To use a
# line, remove one # from its beginning. A reload does not remove a rule that is in force, unless
# keys = \"any\" or users = \"any\" releases it.
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

/// A position in a file. Its line is only counted for an error, because a file may have thousands
/// of keys.
struct Place<'a> {
    file: FileText<'a>,
    offset: usize,
    key: String,
}

impl Place<'_> {
    /// Returns the place of a key below this one.
    fn below(&self, name: &Spanned<DeString<'_>>) -> Self {
        Self { offset: name.span().start, key: join(&self.key, name.get_ref()), ..*self }
    }

    fn line(&self) -> usize {
        self.file.line_of(self.offset)
    }

    fn wrong(&self, value: &DeValue<'_>, expected: String) -> ConfigError {
        self.error(kind_of(value).into(), expected)
    }

    fn wrong_name(&self, name: &Spanned<DeString<'_>>, expected: String) -> ConfigError {
        self.error(format!("the name \"{}\"", one_line(name.get_ref())), expected)
    }

    fn error(&self, got: String, expected: String) -> ConfigError {
        let (file, line) = (self.file.name.into(), self.line());
        ConfigError::FileValue { file, line, key: self.key.clone(), got, expected }
    }

    fn unknown(&self, name: &Spanned<DeString<'_>>) -> ConfigError {
        let valid: Vec<_> = APP_KEYS.iter().map(|key| key.name).collect();
        ConfigError::UnknownKey {
            file: self.file.name.into(),
            line: self.line(),
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
    use crate::config::{ConfigErrors, Settings};

    fn settings(text: &str) -> Result<Settings, ConfigErrors> {
        Settings::read(Some(FileText { name: "t.toml", text }), &[])
    }

    fn error_line(text: &str) -> String {
        settings(text).expect_err(text).to_string()
    }

    #[test]
    fn keys_and_users_are_read_by_application() {
        let text = "[apps.live]\nauthmod = \"llnw\"\nkeys = [\"one\", \"a/b\"]\n\
             [apps.live.users]\nbob = \"s3cret\"\n\"al@home\" = ' '\n\
             [apps.\"tv/eu\".keys]\nnews = \"k1\"\n[apps.open]\nkeys = \"any\"\n";
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
        assert_eq!((apps["open"].keys.len(), apps["open"].users.len()), (0, 0));
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
                 expected an application as in a URL: no ?, no blanks or slashes at its ends, \
                 nothing that is removed from names (%20, mp4:)",
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
                 expected a list of keys, a table NAME = \"KEY\", or \"any\"",
            ),
            (
                "[apps.live]\nkeys = [\"hush\",\n5]",
                "3: key \"apps.live.keys\": got an integer, expected a key that a client can \
                 send: a string, not empty, no ?, no blanks or slashes at its ends, nothing that \
                 is removed from names (%20, mp4:, .flv)",
            ),
            (
                "[apps.live.keys]\nshow = \"hush?\"",
                "2: key \"apps.live.keys.show\": got a string, expected a key that a client can \
                 send: a string, not empty, no ?, no blanks or slashes at its ends, nothing that \
                 is removed from names (%20, mp4:, .flv)",
            ),
            (
                "[apps.live.keys]\na = \"hush\"\n\nb = \"hush\"",
                "4: key \"apps.live.keys.b\": got a string, \
                 expected a key that no other stream has",
            ),
            (
                "[apps.live.keys]\n\"a?b\" = \"hush\"",
                "2: key \"apps.live.keys.\"a?b\"\": got the name \"a?b\", expected a stream name \
                 that players can request: not empty, no ?, no blanks or slashes at its ends, \
                 nothing that is removed from names (%20, mp4:, .flv)",
            ),
            (
                "[apps.live]\nkeys = [\"hush%20\"]",
                "2: key \"apps.live.keys\": got a string, expected a key that a client can \
                 send: a string, not empty, no ?, no blanks or slashes at its ends, nothing that \
                 is removed from names (%20, mp4:, .flv)",
            ),
            (
                "[apps.live]\nkeys = []",
                "2: key \"apps.live.keys\": got a list, \
                 expected at least one key, or keys = \"any\" to accept every key",
            ),
            (
                "[apps.live]\nusers = [\"hush\"]",
                "2: key \"apps.live.users\": got a list, \
                 expected a table NAME = \"PASSWORD\", or \"any\"",
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
                 expected at least one user, or users = \"any\" to need no login",
            ),
            (
                "\n[apps.live]",
                "2: key \"apps.live\": got no access rule, expected keys or users below it, \
                 or keys = \"any\" if anyone may publish there",
            ),
            (
                "[apps.live]\nauthmod = \"llnw\"",
                "1: key \"apps.live\": got no access rule, expected keys or users below it, \
                 or keys = \"any\" if anyone may publish there",
            ),
            (
                "[apps.live]\nkeys = \"Any\"",
                "2: key \"apps.live.keys\": got a string, \
                 expected a list of keys, a table NAME = \"KEY\", or \"any\"",
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
            "[app.live.keys]\nshow = hush",
            "[apps.live.users\nbob = hush",
            "apps.live.users]\nbob = hush\nann = \"hush\"",
            "[play]\napps.live.users]\nstart = \"live\"\nbob = hush",
            "apps = hush",
            "[apps]\nlive = hush",
            "[[apps.live]]\nkeys = hush",
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
             [apps.\"a/b\"]\nauthmod = \"llnw\"\nkeys = \"any\"\n";
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

    /// Returns the access rules that are lost between two files, as `key: rule; remedy`.
    fn lost_between(old: &str, new: &str) -> Vec<String> {
        let (old, new) = (settings(old).unwrap(), settings(new).unwrap());
        let lost = lost(&old.apps, &new.apps).into_iter();
        lost.map(|lost| format!("{}: {}; {}", lost.key, lost.in_force, lost.remedy)).collect()
    }

    #[test]
    fn rule_is_lost_unless_the_new_file_has_it_or_releases_it() {
        let both =
            "[apps.live]\nkeys = [\"hush1\", \"hush2\"]\n[apps.live.users]\nbob = \"hush3\"\n";
        let keys_lost = "apps.live.keys: 2 keys; \
             write keys = \"any\" in [apps.live] to accept every key";
        let users_lost = "apps.live.users: 1 user; \
             write users = \"any\" in [apps.live] to let publishers in without a login";
        for (new, lost) in [
            ("", &[keys_lost, users_lost][..]),
            ("[apps.other]\nkeys = [\"hush1\"]\n", &[keys_lost, users_lost]),
            ("[apps.live]\nkeys = \"any\"\n", &[users_lost]),
            ("[apps.live]\nusers = \"any\"\n", &[keys_lost]),
            ("[apps.live]\nkeys = [\"hush4\"]\n", &[users_lost]),
            ("[apps.live.users]\nann = \"hush5\"\n", &[keys_lost]),
            ("[apps.live]\nkeys = \"any\"\nusers = \"any\"\n", &[]),
            ("[apps.live]\nkeys = [\"hush4\"]\nusers = \"any\"\n", &[]),
            (both, &[]),
        ] {
            assert_eq!(lost_between(both, new), lost, "{new}");
        }
        assert!(lost_between("", both).is_empty());
        let inner = |rules| format!("{both}[apps.\"live/eu\"]\n{rules}");
        let inner_lost = "apps.\"live/eu\".users: 1 user; write users = \"any\" in \
             [apps.\"live/eu\"] to let publishers in without a login";
        assert_eq!(lost_between(both, &inner("keys = [\"hush6\"]\n")), [inner_lost]);
        assert!(lost_between(&inner("keys = [\"hush6\"]\n"), both).is_empty(), "the outer holds");
        assert!(lost_between("[apps.live]\nkeys = \"any\"\n", "").is_empty(), "none in force");
    }

    #[test]
    fn every_mistake_of_the_sections_is_reported_at_once() {
        let text = "[apps.\"a/\"]\nkeys = [\"hush\", 5, \"hush\"]\nkey = 1\n[apps.b.users]\n\
             \"x y\" = \"hush\"\nbob = \"\"\n[apps.c]\n";
        let lines = error_line(text);
        let places: Vec<_> = lines.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(places, [1, 2, 2, 3, 5, 6, 7].map(|line| format!("t.toml:{line}:")));
        assert!(!lines.contains("hush"), "{lines}");
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
