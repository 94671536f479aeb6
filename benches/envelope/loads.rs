//! What the envelope is measured on: pools of different messages, so that branch history is not one message.

/// Messages of one sort.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) frames: Vec<Vec<u8>>,
}

/// A small generator of numbers: the same messages in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % end
    }

    fn of<'a>(&mut self, choice: &[&'a str]) -> &'a str {
        choice.get(self.below(choice.len())).copied().unwrap_or_default()
    }

    fn words(&mut self, count: usize) -> String {
        (0..count).map(|_| self.of(&WORDS)).collect::<Vec<_>>().join(" ")
    }
}

/// Every load, in the order of the tables.
pub(crate) fn all() -> Vec<Load> {
    let mut random = Random(0x5EED_CA75);
    let mut load = |name, count: usize, make: fn(&mut Random, usize) -> String| Load {
        name,
        frames: (0..count).map(|index| make(&mut random, index).into_bytes()).collect(),
    };
    vec![
        load("40 B replies", 1024, tiny),
        load("100 B mix", 1024, small),
        load("300 B call", 512, call),
        load("1 KiB call", 256, |random, index| text_call(random, index, 130)),
        load("4 KiB list", 64, list),
        load("4 KiB call, id last", 64, id_last),
        load("64 KiB code", 8, code),
        load("1 MiB base64", 2, base64),
        load("1 MiB escapes", 2, escapes),
        load("batch of 50", 16, batch),
        load("twitter-like", 2, twitter),
        load("citm-like", 2, citm),
    ]
}

fn tiny(random: &mut Random, index: usize) -> String {
    match random.below(3) {
        0 => format!(r#"{{"jsonrpc":"2.0","id":{index},"method":"ping"}}"#),
        _ => format!(r#"{{"jsonrpc":"2.0","id":{index},"result":{{}}}}"#),
    }
}

fn text_call(random: &mut Random, index: usize, words: usize) -> String {
    let (text, name) = (random.words(words), random.of(&WORDS));
    format!(
        r#"{{"jsonrpc":"2.0","id":{index},"method":"tools/call","params":{{"name":"{name}","arguments":{{"text":"{text}","n":{index},"tags":["{name}",null]}}}}}}"#
    )
}

fn small(random: &mut Random, index: usize) -> String {
    let word = random.of(&WORDS);
    match random.below(5) {
        0 => format!(
            r#"{{"jsonrpc":"2.0","id":{index},"method":"tools/call","params":{{"name":"{word}","arguments":{{"n":{index}}}}}}}"#
        ),
        1 => format!(
            r#"{{"jsonrpc":"2.0","id":{index},"result":{{"content":[{{"type":"text","text":"{word} {word}"}}]}}}}"#
        ),
        2 => format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"t{index}","progress":{index}}}}}"#
        ),
        3 => format!(
            r#"{{"jsonrpc":"2.0","id":"{word}-{index}","method":"resources/read","params":{{"uri":"file:///{word}/{index}.md"}}}}"#
        ),
        _ => format!(
            r#"{{"jsonrpc":"2.0","id":{index},"error":{{"code":-32602,"message":"{word} is not a {word} at all"}}}}"#
        ),
    }
}

fn call(random: &mut Random, index: usize) -> String {
    let (query, path) = (random.words(6), random.words(2).replace(' ', "/"));
    format!(
        r#"{{"jsonrpc":"2.0","id":{index},"method":"tools/call","params":{{"name":"search_{}","arguments":{{"query":"{query}","path":"/home/{path}","limit":{},"recursive":true,"filters":["{}","{}"],"options":{{"case":false,"depth":{}}}}},"_meta":{{"progressToken":"p-{index}"}}}}}}"#,
        random.of(&WORDS),
        random.below(100),
        random.of(&WORDS),
        random.of(&WORDS),
        random.below(9),
    )
}

fn list(random: &mut Random, index: usize) -> String {
    let mut tools = String::new();
    while tools.len() < 3700 {
        let (name, about) = (random.of(&WORDS), random.words(9));
        let (first, second) = (random.of(&WORDS), random.of(&WORDS));
        tools += &format!(
            r#"{}{{"name":"{name}","description":"{about}","inputSchema":{{"type":"object","properties":{{"{first}":{{"type":"string","description":"{about}"}},"{second}":{{"type":"integer","minimum":0,"maximum":{}}}}},"required":["{first}"],"additionalProperties":false}}}}"#,
            if tools.is_empty() { "" } else { "," },
            random.below(1000),
        );
    }
    format!(r#"{{"jsonrpc":"2.0","id":{index},"result":{{"tools":[{tools}]}}}}"#)
}

fn id_last(random: &mut Random, index: usize) -> String {
    let text = random.words(560);
    format!(
        r#"{{"jsonrpc":"2.0","method":"tools/call","params":{{"name":"write","arguments":{{"text":"{text}"}}}},"id":{index}}}"#
    )
}

fn code(random: &mut Random, index: usize) -> String {
    let mut code = String::new();
    while code.len() < 65_000 {
        let (name, other) = (random.of(&WORDS), random.of(&WORDS));
        code += &format!(
            r#"    let {name} = {other}(\"{name}\", &[{}, {}]);\n\tif {name} {{ return Err(\"no {other}\"); }}\n"#,
            random.below(99),
            random.below(9)
        );
    }
    format!(r#"{{"jsonrpc":"2.0","id":{index},"result":{{"content":[{{"type":"text","text":"{code}"}}]}}}}"#)
}

fn base64(random: &mut Random, index: usize) -> String {
    let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
    let blob: String = (0..1 << 20).filter_map(|_| alphabet.get(random.below(64))).collect();
    format!(
        r#"{{"jsonrpc":"2.0","id":{index},"result":{{"contents":[{{"uri":"file:///a.png","mimeType":"image/png","blob":"{blob}"}}]}}}}"#
    )
}

fn escapes(random: &mut Random, index: usize) -> String {
    let mut text = String::new();
    while text.len() < 1 << 20 {
        text += random.of(&WORDS);
        text += random.of(&["\\n", "\\\"", "\\\\", "\\u00e9", "\\t", "é", "\\/", " "]);
    }
    format!(r#"{{"jsonrpc":"2.0","id":{index},"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#)
}

fn batch(random: &mut Random, index: usize) -> String {
    let elements: Vec<String> = (0..50).map(|element| call(random, index * 50 + element)).collect();
    format!("[{}]", elements.join(","))
}

fn twitter(random: &mut Random, index: usize) -> String {
    let status = |random: &mut Random| {
        format!(
            r#"{{"metadata":{{"result_type":"recent","iso_language_code":"ja"}},"id":50587492409{},"text":"@{} {} 名前:前田あゆみ 第一印象:なんか怖っ！\n{}","source":"<a href=\"http://example.com\" rel=\"nofollow\">{}</a>","truncated":false,"in_reply_to_status_id":null,"user":{{"id":{},"name":"{} タイル","followers_count":{},"verified":false,"entities":{{"description":{{"urls":[]}}}}}},"entities":{{"hashtags":[],"user_mentions":[{{"indices":[0,{}]}}]}},"favorited":false,"lang":"ja"}}"#,
            random.below(1 << 30),
            random.of(&WORDS),
            random.words(3),
            random.words(5),
            random.of(&WORDS),
            random.below(1 << 30),
            random.of(&WORDS),
            random.below(9999),
            random.below(20),
        )
    };
    let statuses: Vec<String> = (0..900).map(|_| status(random)).collect();
    format!(
        r#"{{"jsonrpc":"2.0","id":{index},"result":{{"structuredContent":{{"statuses":[{}]}}}}}}"#,
        statuses.join(",")
    )
}

fn citm(random: &mut Random, index: usize) -> String {
    let mut events = String::new();
    for event in 0..2400 {
        events += &format!(
            "{}\n        \"{}\": {{\n            \"description\": null,\n            \"id\": {},\n            \"logo\": \"/images/{}.jpg\",\n            \"name\": \"{}\",\n            \"subTopicIds\": [\n                {},\n                {}\n            ],\n            \"subjectCode\": null,\n            \"topicIds\": [\n                {},\n                {}\n            ],\n            \"prices\": [ {{ \"amount\": {}, \"audienceSubCategoryId\": 337100890, \"seatCategoryId\": {} }} ]\n        }}",
            if event == 0 { "" } else { "," },
            138_586_341 + event,
            random.below(1 << 28),
            random.of(&WORDS),
            random.words(3),
            random.below(1 << 28),
            random.below(1 << 28),
            random.below(1 << 28),
            random.below(1 << 28),
            random.below(99_999),
            random.below(1 << 28),
        );
    }
    format!(
        "{{\n    \"jsonrpc\": \"2.0\",\n    \"id\": {index},\n    \"result\": {{\n    \"events\": {{{events}\n    }}\n    }}\n}}"
    )
}

const WORDS: [&str; 24] = [
    "alpha",
    "river",
    "stone",
    "a",
    "of",
    "window",
    "configuration",
    "the",
    "kernel",
    "is",
    "lantern",
    "protocol",
    "server",
    "in",
    "harbour",
    "sequence",
    "token",
    "to",
    "velvet",
    "index",
    "buffer",
    "orchid",
    "stream",
    "quartz",
];
