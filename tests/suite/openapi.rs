//! The description of the API against its answers: each call that it names is made, and each answer
//! has the shape that it promises, with nothing added and nothing left out.

use std::collections::BTreeSet;

use serde_json::Value;
use tiderace::config::{FileText, Settings};
use tiderace::server::web::ApiToken;

use crate::frames::publish;
use crate::web::{ALL, Response, TOKEN, ask, get, viewer, with};
use crate::world::World;

fn description() -> Value {
    let mut world = World::new(Settings::default());
    ask(&mut world, ALL, &get("/api/v1/openapi.json")).json()
}

/// Returns the schema that a reference leads to, or the schema itself.
fn resolved<'d>(description: &'d Value, schema: &'d Value) -> &'d Value {
    match schema["$ref"].as_str() {
        Some(path) => description.pointer(&path[1..]).expect("a reference that leads somewhere"),
        None => schema,
    }
}

/// Checks a value by the few words of JSON Schema that the description uses.
fn check(description: &Value, schema: &Value, value: &Value, place: &str) {
    let schema = resolved(description, schema);
    if let Some(choices) = schema["enum"].as_array() {
        return assert!(choices.contains(value), "{place}: {value} is none of {choices:?}");
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        one => vec![one.clone()],
    };
    let of_value = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = types.iter().any(|one| one == of_value || one == "number" && of_value == "integer");
    assert!(fits, "{place}: {value} is no {types:?}");
    assert!(value.as_i64().is_none_or(|n| n >= schema["minimum"].as_i64().unwrap_or(i64::MIN)));
    if let Some(items) = value.as_array() {
        items.iter().for_each(|item| check(description, &schema["items"], item, place));
    }
    let Some(object) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(object.contains_key(name.as_str().unwrap()), "{place} lacks {name}");
    }
    for (name, value) in object {
        let further = schema.get("additionalProperties");
        match schema["properties"].get(name).or(further) {
            Some(schema) => check(description, schema, value, &format!("{place}.{name}")),
            None => assert!(schema.get("properties").is_none(), "{place}: {name} is undocumented"),
        }
    }
}

/// Makes a call, and checks that the description has its status and the shape of its answer.
fn call(world: &mut World, description: &Value, method: &str, path: &str, ask_for: &str) -> u16 {
    let (target, body) = ask_for.split_once(' ').unwrap_or((ask_for, ""));
    let fields = format!("Authorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n", body.len());
    let request = with(method, target, &fields) + body;
    let Response { status, head, body } = ask(world, ALL, &request);
    let call = &description["paths"][path][method.to_ascii_lowercase()];
    let answer = resolved(description, &call["responses"][status.to_string()]);
    assert!(answer.is_object(), "{method} {ask_for}: {status} is undocumented: {head}");
    match answer["content"].as_object() {
        None => assert!(body.is_empty(), "{method} {ask_for}: a body that is undocumented"),
        Some(content) => {
            let (media_type, content) = content.iter().next().unwrap();
            assert!(head.contains(&format!("Content-Type: {media_type}\r\n")), "{head}");
            let value = serde_json::from_slice(&body).unwrap();
            check(description, &content["schema"], &value, ask_for);
        }
    }
    status
}

#[test]
fn each_call_of_the_description_gives_what_it_promises() {
    let description = description();
    let mut world = World::new(Settings::default());
    world.server.set_token(ApiToken::new(TOKEN));
    let publisher = world.publisher("cam");
    publish(&mut world, publisher, "V0 A0 K1 a1 i2", 0);
    viewer(&mut world, "/live/cam.flv");
    world.player("cam");
    world.player("nobody");
    let id = |world: &mut World, what: &str, at: usize| {
        let list = ask(world, ALL, &get(&format!("/api/v1/{what}"))).json();
        list[what][at]["id"].as_str().unwrap().to_owned()
    };
    let (live, waiting) = (id(&mut world, "streams", 0), id(&mut world, "streams", 1));
    let (first, second) = (id(&mut world, "connections", 1), id(&mut world, "connections", 2));
    let calls = [
        ("GET", "/server", "/server".to_owned(), 200),
        ("GET", "/streams", "/streams".to_owned(), 200),
        ("GET", "/streams", "/streams?limit=1&name=live/cam".to_owned(), 200),
        ("GET", "/streams", "/streams?limit=0".to_owned(), 422),
        ("GET", "/streams", "/streams?after=x".to_owned(), 422),
        ("GET", "/streams/{id}", format!("/streams/{live}"), 200),
        ("GET", "/streams/{id}", "/streams/7-7".to_owned(), 404),
        ("GET", "/connections", "/connections?limit=2".to_owned(), 200),
        ("GET", "/connections", "/connections?limit=1001".to_owned(), 422),
        ("GET", "/connections/{id}", format!("/connections/{first}"), 200),
        ("GET", "/connections/{id}", "/connections/x".to_owned(), 404),
        ("GET", "/config", "/config".to_owned(), 200),
        ("GET", "/openapi.json", "/openapi.json".to_owned(), 200),
        ("PUT", "/log-level", "/log-level {\"level\":\"loud\"}".to_owned(), 422),
        ("POST", "/reload", "/reload".to_owned(), 202),
        ("DELETE", "/streams/{id}", format!("/streams/{waiting}"), 409),
        ("DELETE", "/streams/{id}", format!("/streams/{live}"), 204),
        ("POST", "/connections/{id}/kick", format!("/connections/{first}/kick"), 204),
        ("DELETE", "/connections/{id}", format!("/connections/{second}"), 204),
    ];
    let mut made = BTreeSet::new();
    for (method, path, ask_for, status) in calls {
        let (path, ask_for) = (format!("/api/v1{path}"), format!("/api/v1{ask_for}"));
        let found = call(&mut world, &description, method, &path, &ask_for);
        assert_eq!(found, status, "{method} {ask_for}");
        made.insert(format!("{method} {path}"));
    }
    // Changing the level would change the log of the other tests.
    made.insert("PUT /api/v1/log-level".to_owned());
    let paths = description["paths"].as_object().unwrap();
    let described = paths.iter().flat_map(|(path, calls)| {
        let calls = calls.as_object().unwrap().keys().filter(|key| *key != "parameters");
        calls.map(move |method| format!("{} {path}", method.to_ascii_uppercase()))
    });
    assert_eq!(described.collect::<BTreeSet<_>>(), made);
}

#[test]
fn the_description_is_an_openapi_document_whose_references_lead_somewhere() {
    let description = description();
    assert_eq!(description["openapi"], "3.1.0");
    let text = description.to_string();
    for (_, rest) in
        text.match_indices("\"$ref\":\"#").map(|(at, found)| (at, &text[at + found.len()..]))
    {
        let path = rest.split('"').next().unwrap();
        assert!(description.pointer(path).is_some(), "{path}");
    }
    let operations: Vec<_> = text.match_indices("\"operationId\":\"").collect();
    let names: BTreeSet<_> =
        operations.iter().map(|(at, found)| text[at + found.len()..].split('"').next()).collect();
    assert_eq!(names.len(), operations.len(), "an operation id is there twice");
}

#[test]
fn the_configuration_is_shown_without_its_secrets() {
    let text = "drain_ms = 5\n[play]\nstart = \"live\"\n[http]\nhosts = [\"a.example\"]\n\
        [apps.live]\nkeys = [\"MARKER1\"]\n[apps.live.users]\nbob = \"MARKER2\"\n\
        [apps.studio.keys]\nshow = \"MARKER3\"\n[apps.\"a/b\".users]\nkim = \"MARKER4\"\n";
    let settings = Settings::read(Some(FileText { name: "t.toml", text }), &[]).unwrap();
    let mut world = World::new(settings);
    world.server.set_token(ApiToken::new("MARKER5-0123456789"));
    let response = ask(&mut world, ALL, &get("/api/v1/config"));
    let shown = String::from_utf8(response.body.clone()).unwrap();
    assert!(!shown.contains("MARKER"), "{shown}");
    let config = response.json();
    assert_eq!(config["drain_ms"], 5);
    assert_eq!(config["play"]["start"], "live");
    assert_eq!(config["http"]["hosts"][0], "a.example");
    assert_eq!(config["limits"]["chunk_streams_max"], 64);
    assert_eq!(config["apps"]["live"]["keys"], "1 key");
    assert_eq!(config["apps"]["a/b"]["users"], "1 user");
    for path in ["/api/v1/server", "/api/v1/openapi.json", "/", "/metrics"] {
        let response = ask(&mut world, ALL, &get(path));
        assert!(!String::from_utf8(response.body).unwrap().contains("MARKER"), "{path}");
    }
}
