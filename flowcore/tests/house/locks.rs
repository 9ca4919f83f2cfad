//! No lock is held while a thread waits for another one: across a channel, a pipe, a connection, the end of a thread, or what
//! a caller has handed in. The rule is read off the text: it follows calls by their names and one call deep, and rather finds
//! too much; what is well nevertheless stands on a list.

use std::collections::BTreeSet;

use super::text::{block, block_rest, call_end, ends_in_word, plain, statement_rest, word, words};
use super::{is_word, root};

/// Where a lock is held while something may be waited for, file and function, and why that is well.
const HELD: &[(&str, &str, &str)] = &[
    (
        "flowcap/src/lookups.rs",
        "send",
        "keeps messages whole in one pipe; who reads it waits for nobody here",
    ),
    (
        "flowcap/src/shippers/sending.rs",
        "tell",
        "keeps messages whole in one pipe; who reads it waits for nobody here",
    ),
    (
        "flowcap/src/owners.rs",
        "write",
        "a file of its own, by the thread of the index, which no packet waits for",
    ),
    ("flowcap/src/owners.rs", "finish", "a file of its own, when the thread of the index has ended"),
    ("flowcore/src/enrich/index.rs", "at", "what it is given is looked through where it is called"),
    ("flowcore/src/enrich/index.rs", "finish", "readers are let in, and nobody else writes"),
];

/// Where threads and channels are those of a model, made of locks.
const MODEL: &str = "shard/channel/modelled.rs";

#[test]
fn no_lock_is_held_while_another_thread_is_waited_for() {
    let mut texts = Vec::new();
    for package in ["flowcore", "flowcap"] {
        let root = root().join("..").join(package).join("src");
        for (path, code) in super::texts(&root).into_iter().filter(|(path, _)| path != MODEL) {
            texts.push(Text { path: format!("{package}/src/{path}"), code: plain(&code) });
        }
    }
    let (found, mut needed) = (held(&texts), BTreeSet::new());
    let is_listed = |(path, function, _): &&(String, String, String)| {
        let nth = HELD.iter().position(|(file, name, _)| file == path && name == function);
        nth.map(|nth| needed.insert(nth)).is_some()
    };
    let (_, wrong): (Vec<_>, Vec<_>) = found.iter().partition(is_listed);
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(needed.len(), HELD.len(), "of the list only {needed:?} are still there");
}

#[test]
fn the_rule_sees_what_it_should() {
    for wrong in [
        "let held = self.0.lock().unwrap(); to.send(1);",
        "let held = self.0.lock().unwrap_or_else(PoisonError::into_inner); if x { jobs.recv(); }",
        "let held = self.0.write().unwrap(); thread.join();",
        "let Ok(mut held) = self.0.lock() else { return }; parent.write_all(b);",
        "if let Some(job) = self.0.lock().unwrap().pop() { to.send(job); }",
        "while let Some(job) = self.0.lock().unwrap().pop() { to.send(job); }",
        "match self.0.read().unwrap().first() { Some(x) => to.send(x), None => {} }",
        "match self.0.read() { Ok(held) => to.send(*held), Err(_) => {} }",
        "for job in self.0.lock().unwrap().drain(..) { to.send(job); }",
        "to.send(self.0.lock().unwrap().clone()); self.0.lock().unwrap().send(1);",
        "self.0.lock().unwrap().iter().for_each(|x| _ = to.send(x));",
        "let held = self.inside(); thread::sleep(LONG);",
        "let held = self.tidy.as_ref().map(Tidy::inside); to.send(1); drop(held);",
        "let held = self.0.lock().unwrap(); if x { drop(held); } to.send(1);",
        "let held = self.0.lock().unwrap(); tell();",
        "let held = self.0.lock().unwrap(); callback(&held);",
        "let held = self.0.lock().unwrap(); (self.callback)(&held);",
        "for entry in &self.tuples { tell(); }",
        "if let Some(entry) = self.tuples.get_mut(&tuple) { to.send(entry); }",
        "let Some(entry) = self.tuples.get(&tuple) else { return }; to.send(entry);",
        "index.at(&tuple, |entries| to.send(entries));",
        "struct Kept<'a> { guard: MutexGuard<'a, ()> }",
    ] {
        assert_ne!(held_in(wrong), [], "{wrong}");
    }
    for right in [
        "self.0.lock().unwrap().push(1); to.send(1);",
        "let copy = self.0.lock().unwrap().clone(); to.send(copy);",
        "let held = self.0.lock().unwrap(); drop(held); to.send(1);",
        "{ let held = self.0.lock().unwrap(); held.add(1); } to.send(1);",
        "*self.0.write().unwrap() = \"to.send(1)\"; // to.send(1)\n to.send('\"');",
        "if let Some(x) = self.tuples.get(&tuple) { x.see(); } to.send(1);",
        "let counts = counters.read(); to.send(counts);",
        "let copy = self.inside().clone(); to.send(copy);",
        "index.at(&tuple, |entries| entries.len()); to.send(1);",
    ] {
        assert_eq!(held_in(right), [], "{right}");
    }
}

/// Returns what is found in the body of a function, or beside it.
fn held_in(code: &str) -> Vec<(String, String, String)> {
    let code = format!(
        "struct Index {{ tuples: DashMap<A, B> }} fn tell() {{ to.send(1); }} \
         fn inside(&self) -> MutexGuard<'_, A> {{ self.0.lock().unwrap() }} fn looked_at() {{ {code} }}"
    );
    held(&[Text { path: String::new(), code: plain(&code) }])
}

/// What may wait, as it stands in the code.
const WAITS: &[&str] = &[
    ".send(",
    ".send_timeout(",
    ".recv(",
    ".recv_timeout(",
    ".join()",
    ".wait(",
    ".wait_timeout(",
    ".wait_while(",
    ".write_all(",
    ".write_vectored(",
    ".write_fmt(",
    ".flush(",
    ".sync_data(",
    ".sync_all(",
    ".read_exact(",
    ".read_line(",
    ".read_to_end(",
    ".read_to_string(",
    ".accept(",
    ".connect(",
    "connect(",
    "sleep(",
    "park(",
    "park_timeout(",
    "poll(",
    "write!(",
    "writeln!(",
    "print!(",
    "println!(",
    "eprint!(",
    "eprintln!(",
];

/// What takes a lock and returns a guard.
const TAKES: &[&str] = &[
    ".lock()",
    ".try_lock()",
    ".read().unwrap",
    ".read().expect",
    ".read() {",
    ".write().unwrap",
    ".write().expect",
    ".write() {",
    ".try_read()",
    ".try_write()",
];

/// What calls a function that it is given while it holds a lock.
const LENDS: &[&str] = &["index.at("];

/// A text: where it stands, and what it says without comments, quotes and breaks of lines.
struct Text {
    path: String,
    code: String,
}

/// Returns the places where a lock is held while something may be waited for: file, function, what waits.
fn held(texts: &[Text]) -> Vec<(String, String, String)> {
    let functions: Vec<Function<'_>> = texts.iter().flat_map(functions).collect();
    let guards = functions.iter().filter(|function| function.returns.contains("Guard<"));
    let guards: Vec<&str> = guards.map(|function| function.name).collect();
    let mut found = Vec::new();
    for text in texts {
        for (at, scope) in scopes(&text.code, &guards) {
            for what in waits(scope, room(&text.path), &functions) {
                found.push((text.path.clone(), function_at(&text.code, at).to_owned(), what));
            }
        }
        for (at, _) in text.code.match_indices("Guard<") {
            let from = text.code[..at].rfind([';', '{', '}']).unwrap_or_default();
            if !text.code[from..at].contains("->") {
                found.push((text.path.clone(), String::new(), "a guard that is kept".to_owned()));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Returns where locks are taken, and the text in which each is held. `guards` are the functions that return one.
fn scopes<'a>(code: &'a str, guards: &[&str]) -> Vec<(usize, &'a str)> {
    let mut scopes = Vec::new();
    let mut takes: Vec<String> = TAKES.iter().map(|&take| take.to_owned()).collect();
    takes.extend(guards.iter().flat_map(|name| [format!("{name}("), format!("::{name})")]));
    for take in &takes {
        for at in words(code, take).filter(|at| !code[..*at].ends_with("fn ")) {
            let after = at + take.find("()").map_or(take.len(), |call| call + 2);
            scopes.push((at, scope(code, at, after)));
        }
    }
    for map in maps(code) {
        for at in words(code, &format!(".{map}")) {
            let called = at + 1 + map.len();
            let method = code[called..].strip_prefix('.').map_or("", word);
            let after = called + if method.is_empty() { 0 } else { method.len() + 2 };
            scopes.push((at, scope(code, at, after)));
        }
    }
    for (at, lends) in LENDS.iter().flat_map(|lends| code.match_indices(lends)) {
        let after = at + lends.len();
        scopes.push((at, &code[after..call_end(code, after)]));
    }
    scopes
}

struct Function<'a> {
    room: &'a str,
    name: &'a str,
    returns: &'a str,
    body: &'a str,
}

fn functions(text: &Text) -> Vec<Function<'_>> {
    let (room, code) = (room(&text.path), text.code.as_str());
    let starts = code.match_indices("fn ").filter(|(at, _)| !ends_in_word(&code[..*at]));
    let functions = starts.filter_map(|(at, _)| {
        let rest = &code[at + 3..];
        let name = word(rest);
        let open = rest.find(['{', ';'])?;
        let returns = rest[..open].rsplit_once("->").map_or("", |(_, returns)| returns);
        Some(Function { room, name, returns, body: &rest[open..open + block(&rest[open..])] })
    });
    functions.filter(|function| !function.name.is_empty()).collect()
}

impl Function<'_> {
    fn waits(&self) -> bool {
        WAITS.iter().any(|wait| words(self.body, wait).next().is_some())
    }
}

/// Returns the room of a file, or the file of the command.
fn room(path: &str) -> &str {
    path.match_indices('/').nth(2).map_or(path, |(end, _)| &path[..end])
}

/// The calls in a text: what stands before the name, and the name.
fn calls(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.match_indices('(').map(|(at, _)| {
        let before = &text[..at];
        before.split_at(before.rfind(|c| !is_word(c)).map_or(0, |at| at + 1))
    })
}

/// The names of all maps whose references are guards.
fn maps(code: &str) -> Vec<&str> {
    let fields = code.match_indices(": DashMap<").map(|(at, _)| &code[..at]);
    fields.map(|before| &before[before.rfind(|c| !is_word(c)).map_or(0, |at| at + 1)..]).collect()
}

/// What waits in a scope: by a name that says so, by a function that does, by calling what is not known. Of functions of
/// one name those of the same room are meant.
fn waits(scope: &str, room: &str, functions: &[Function<'_>]) -> Vec<String> {
    let by_name = WAITS.iter().filter(|wait| words(scope, wait).next().is_some());
    let mut found: Vec<String> = by_name.map(|&wait| wait.to_owned()).collect();
    for (lead, name) in calls(scope) {
        let is_free = !lead.ends_with(['.', ':', '!']) && !lead.ends_with("fn ");
        let is_word = name.starts_with(|c: char| c.is_lowercase()) && !KEYWORDS.contains(&name);
        let named = || functions.iter().filter(|function| function.name == name);
        let in_room = || named().filter(|function| function.room == room);
        let waits = match in_room().next() {
            Some(_) => in_room().any(Function::waits),
            None => !OF_STD.contains(&name) && named().any(Function::waits),
        };
        if is_word && waits || name.is_empty() && lead.ends_with(')') {
            found.push(format!("{name}("));
        } else if is_word && is_free && named().next().is_none() {
            found.push(format!("{name}( that it was given"));
        }
    }
    found
}

/// Functions of these names are called so often, and are the standard library's then, that ours are not meant.
const OF_STD: &[&str] = &["new", "push", "take"];
const KEYWORDS: &[&str] =
    &["if", "in", "match", "while", "for", "return", "let", "mut", "move", "drop", "else"];

/// Returns the text in which a guard is held that is taken at `at`, by a call whose arguments begin before `after`.
fn scope(code: &str, at: usize, after: usize) -> &str {
    let from = code[..at].rfind([';', '{', '}']).map_or(0, |before| before + 1);
    let statement = code[from..at].trim_start();
    let mut end = call_end(code, after);
    loop {
        let rest = &code[end..];
        match TAILS.iter().find(|tail| rest.starts_with(*tail)) {
            Some(tail) => end = call_end(code, end + tail.len()),
            None => break,
        }
    }
    let rest = &code[end..];
    let is_kept = statement.starts_with("let ") && (rest.starts_with(';') || rest.starts_with(" else"));
    if is_kept {
        let pattern = statement["let ".len()..].split('=').next().unwrap_or_default();
        let name = pattern.split(|c| !is_word(c)).rfind(|part| !part.is_empty()).unwrap_or_default();
        &rest[..block_rest(rest, &format!("drop({name});"))]
    } else {
        &code[after..end + statement_rest(rest)]
    }
}

/// What leaves a guard as it is.
const TAILS: &[&str] =
    &[".unwrap()", ".expect(", ".unwrap_or_else(", ".or_default()", ".or_insert(", ".or_insert_with(", "?"];

/// Returns the name of the function that stands last before a place.
fn function_at(code: &str, at: usize) -> &str {
    code[..at].rfind("fn ").map_or("", |start| word(&code[start + 3..]))
}
