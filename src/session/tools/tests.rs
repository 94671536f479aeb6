//! Marks found and refused, values read from calls, bounds kept.

use serde_json::{Value, json};

use super::*;

fn list(tools: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}}).to_string()
}

fn learnt(schema: &Value) -> (Tools, Learned) {
    let mut tools = Tools::new();
    let learned = tools.learn(list(&json!([{"name": "t", "inputSchema": schema}])).as_bytes());
    (tools, learned)
}

/// A schema whose properties are these.
fn object(properties: &Value) -> Value {
    json!({"type": "object", "properties": properties})
}

fn text(mark: &str) -> Value {
    json!({"type": "string", "x-mcp-header": mark})
}

/// "header=value" of each mirrored argument, "header" alone where there is none; or that it cannot be read.
fn read(tools: &Tools, arguments: &str) -> Result<Vec<String>, String> {
    let frame =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t","arguments":{arguments}}}}}"#);
    let read = tools.params_of("t").expect("has parameters").read(frame.as_bytes()).map_err(HeaderName::to_string)?;
    let shown = read.into_iter().map(|(header, argument)| match argument {
        Some(argument) => format!("{header}={}", argument.into_text()),
        None => header.to_string(),
    });
    Ok(shown.collect())
}

#[test]
fn marks_are_valid_only_where_and_how_the_rules_say() {
    let valid = [
        object(&json!({"region": text("Region")})),
        object(&json!({"n": {"type": "integer", "x-mcp-header": "N"}})),
        object(&json!({"b": {"type": "boolean", "x-mcp-header": "B"}})),
        // No clash with the standard headers: it becomes `Mcp-Param-Method`.
        object(&json!({"m": text("Method")})),
        object(&json!({"m": text("!#$%&'*+-.^_`|~09azAZ")})),
        object(&json!({"outer": object(&json!({"inner": object(&json!({"leaf": text("Leaf")}))}))})),
        object(&json!({"a": text("A"), "b": text("B")})),
        // Names, not keywords.
        object(&json!({"items": text("Items")})),
        object(&json!({"properties": text("Properties")})),
        object(&json!({"x-mcp-header": text("Own")})),
        // Data, not a schema.
        object(&json!({"a": {"type": "string", "x-mcp-header": "A", "default": {"x-mcp-header": ""}}})),
    ];
    for schema in &valid {
        let (tools, learned) = learnt(schema);
        assert_eq!((learned.with_params, learned.invalid.as_slice()), (1, &[][..]), "{schema}");
        assert!(tools.params_of("t").is_some() && tools.broken_rule_of("t").is_none(), "{schema}");
    }
    let marked = json!({"type": "string", "x-mcp-header": "X"});
    let with_type = |kind: Value| object(&json!({"a": {"type": kind, "x-mcp-header": "A"}}));
    let invalid = [
        object(&json!({"a": text("")})),
        object(&json!({"a": text("My Region")})),
        object(&json!({"a": text("Region:Primary")})),
        object(&json!({"a": text("Région")})),
        object(&json!({"a": text("Region\t1")})),
        object(&json!({"a": text("Region\r\nX: y")})),
        object(&json!({"a": text("Region"), "b": text("Region")})),
        object(&json!({"a": text("Region"), "b": text("REGION")})),
        object(&json!({"a": text("Region"), "b": object(&json!({"c": text("region")}))})),
        object(&json!({"a": {"type": "string", "x-mcp-header": 7}})),
        object(&json!({"a": {"type": "string", "x-mcp-header": null}})),
        object(&json!({"a": {"x-mcp-header": "A"}})),
        with_type(json!("number")),
        with_type(json!("array")),
        with_type(json!("object")),
        with_type(json!("null")),
        with_type(json!(["string", "null"])),
        json!({"type": "string", "x-mcp-header": "Root"}),
        object(&json!({"a": {"type": "array", "items": marked}})),
        object(&json!({"a": {"type": "array", "prefixItems": [marked]}})),
        object(&json!({"a": {"type": "array", "items": object(&json!({"b": marked}))}})),
        object(&json!({"a": {"type": "object", "additionalProperties": marked}})),
        object(&json!({"a": {"type": "object", "patternProperties": {"^x": marked}}})),
        json!({"type": "object", "oneOf": [object(&json!({"a": marked}))]}),
        json!({"type": "object", "anyOf": [object(&json!({"a": marked}))]}),
        json!({"type": "object", "allOf": [object(&json!({"a": marked}))]}),
        json!({"type": "object", "not": object(&json!({"a": marked}))}),
        json!({"type": "object", "if": object(&json!({"a": marked}))}),
        json!({"type": "object", "then": object(&json!({"a": marked}))}),
        json!({"type": "object", "else": object(&json!({"a": marked}))}),
        json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": marked}}),
        json!({"type": "object", "definitions": {"x": marked}}),
    ];
    for schema in &invalid {
        let (tools, learned) = learnt(schema);
        assert_eq!((learned.with_params, learned.invalid.len()), (0, 1), "{schema}");
        assert_eq!(learned.invalid.first().map(|invalid| invalid.tool.as_str()), Some("t"));
        let fault = learned.invalid.first().map(|invalid| invalid.fault);
        assert!(tools.params_of("t").is_none(), "{schema}");
        assert_eq!(tools.broken_rule_of("t").map(Fault::Rule), fault, "{schema}");
    }
}

#[test]
fn marks_spelled_with_escapes_are_found() {
    let mut tools = Tools::new();
    let frame = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"n\u0061me":"\u0074","inputSchema":
        {"properties":{"a":{"type":"string","x\u002dmcp-header":"A"}}}}]}}"#;
    assert_eq!(tools.learn(frame.as_bytes()).with_params, 1);
    assert_eq!(read(&tools, r#"{"\u0061":"x"}"#), Ok(vec!["mcp-param-a=x".into()]));
}

#[test]
fn values_are_read_at_their_exact_path() {
    let (tools, _) = learnt(&object(&json!({
        "s": text("S"),
        "outer": object(&json!({"n": {"type": "integer", "x-mcp-header": "N"}})),
        "flag": {"type": "boolean", "x-mcp-header": "Flag"},
    })));
    for (arguments, expected) in [
        (
            r#"{"s":"a\nb","outer":{"n":42.0},"flag":false}"#,
            ["mcp-param-flag=false", "mcp-param-n=42.0", "mcp-param-s=a\nb"],
        ),
        (r#"{"s":null,"outer":{"n":null},"flag":null}"#, ["mcp-param-flag", "mcp-param-n", "mcp-param-s"]),
        ("{}", ["mcp-param-flag", "mcp-param-n", "mcp-param-s"]),
        ("null", ["mcp-param-flag", "mcp-param-n", "mcp-param-s"]),
        ("[1]", ["mcp-param-flag", "mcp-param-n", "mcp-param-s"]),
        (r#"{"s":"","outer":7,"n":1,"x":{"s":1}}"#, ["mcp-param-flag", "mcp-param-n", "mcp-param-s="]),
        (r#"{"s":["a"],"outer":{"n":{}},"flag":true}"#, ["mcp-param-flag=true", "mcp-param-n", "mcp-param-s"]),
        (
            r#" { "big" : [1e999, "\ud800"] , "s" : 1 , "outer" : { "x" : {} , "n" : -7 } } "#,
            ["mcp-param-flag", "mcp-param-n=-7", "mcp-param-s=1"],
        ),
    ] {
        assert_eq!(read(&tools, arguments).map(|read| read.join(" ")), Ok(expected.join(" ")), "{arguments}");
    }
    for arguments in [
        r#"{"s":"a","s":"b"}"#,
        r#"{"s":"a","\u0073":"b"}"#,
        r#"{"outer":{"n":1},"outer":{}}"#,
        r#"{"outer":{"n":1,"n":2}}"#,
        r#"{"s":"\ud800"}"#,
    ] {
        assert!(read(&tools, arguments).is_err(), "{arguments}");
    }
    // Who is twice there and is not mirrored is no matter of ours.
    assert!(read(&tools, r#"{"x":1,"x":2}"#).is_ok());
}

#[test]
fn later_answers_replace_what_was_known() {
    let (mut tools, _) = learnt(&object(&json!({"a": text("A")})));
    let cost = tools.bytes;
    let again = tools.learn(list(&json!([{"name": "t", "inputSchema": object(&json!({"a": text("A")}))}])).as_bytes());
    assert_eq!((again.with_params, tools.bytes), (1, cost));
    let _ = tools.learn(list(&json!([{"name": "other", "inputSchema": {}}])).as_bytes());
    assert!(tools.params_of("t").is_some(), "another page says nothing of it");
    let _ = tools.learn(list(&json!([{"name": "t", "inputSchema": object(&json!({"a": text("")}))}])).as_bytes());
    assert!(tools.broken_rule_of("t").is_some());
    let _ =
        tools.learn(list(&json!([{"name": "t", "inputSchema": object(&json!({"a": {"type": "string"}}))}])).as_bytes());
    assert!(tools.broken_rule_of("t").is_none() && tools.params_of("t").is_none());
    assert_eq!((tools.bytes, tools.by_name.len()), (0, 0));
}

#[test]
fn answers_that_are_no_lists_teach_nothing_and_strange_elements_are_skipped() {
    let mut tools = Tools::new();
    for frame in [
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":""}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":7}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":{"a":1}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":null}}"#,
        "[]",
        "",
    ] {
        assert_eq!(tools.learn(frame.as_bytes()), Learned::default(), "{frame}");
    }
    let good = json!({"name": "t", "inputSchema": object(&json!({"a": text("A")}))});
    let learned = tools.learn(list(&json!([0, null, {"name": 7}, {}, {"name": "n"}, good])).as_bytes());
    assert_eq!((learned.tools, learned.with_params), (6, 1));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut tools = Tools::new();
    let schema = object(&json!({"a": text("A")}));
    let many: Vec<Value> =
        (0..MAX_TOOLS + 3).map(|index| json!({"name": format!("t{index}"), "inputSchema": schema})).collect();
    let learned = tools.learn(list(&many.into()).as_bytes());
    assert_eq!((learned.tools, tools.by_name.len() + learned.dropped), (MAX_TOOLS + 3, MAX_TOOLS + 3));
    assert!(learned.dropped >= 3 && tools.bytes <= MAX_BYTES, "{learned:?}");

    let mut tools = Tools::new();
    let long = |index: usize| json!({"name": format!("{}{index}", "n".repeat(MAX_BYTES / 3)), "inputSchema": schema});
    let learned = tools.learn(list(&json!([long(1), long(2), long(3), long(4)])).as_bytes());
    assert_eq!((learned.with_params, learned.dropped), (2, 2));
    assert!(tools.bytes <= MAX_BYTES);

    let mut tools = Tools::new();
    let bad = object(&json!({"a": text("")}));
    let many: Vec<Value> = (0..100).map(|index| json!({"name": format!("t{index}"), "inputSchema": bad})).collect();
    assert_eq!(tools.learn(list(&many.into()).as_bytes()).invalid.len(), MAX_REPORTED);

    let properties: serde_json::Map<String, Value> =
        (0..100).map(|index| (format!("p{index}"), text(&format!("H{index}")))).collect();
    let too_much = [
        (object(&properties.into()), "more marks than a request has room for"),
        (object(&json!({"a": text(&"x".repeat(70_000))})), "a name too long for a header"),
        (object(&json!({"a": text("A"), "b": {"const": "x".repeat(1 << 20)}})), "a schema too long to be searched"),
    ];
    for (schema, what) in too_much {
        let (tools, learned) = learnt(&schema);
        assert!(matches!(learned.invalid[..], [Invalid { fault: Fault::Limit(_), .. }]), "{what}");
        // That is our limit and no fault of the tool: it can be called.
        assert!(tools.broken_rule_of("t").is_none() && tools.params_of("t").is_none(), "{what}");
    }
}
