use proptest::prelude::*;

use super::*;

fn template(text: &str) -> Template {
    Template::parse(text).unwrap()
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn name(text: &str, number: u32) -> String {
    template(text).name(at("2026-02-09T04:05:06.7Z"), number).to_str().unwrap().to_owned()
}

fn read(text: &str, path: &str) -> Option<Made> {
    template(text).read(Path::new(path))
}

#[test]
fn names_by_hand() {
    assert_eq!(name("flows-%Y%m%d-%H.jsonl.zst", 1), "flows-20260209-04.jsonl.zst");
    assert_eq!(name("flows-%Y%m%d-%H.jsonl.zst", 12), "flows-20260209-04-12.jsonl.zst");
    assert_eq!(name("%Y/%j/%M%S.csv", 2), "2026/040/0506-2.csv");
    assert_eq!(name("%s.log.gz", 1), "1770609906.log.gz");
    assert_eq!(name("100%%", 2), "100%-2");
    assert_eq!(name("/var/log/flows.jsonl", 1), "flows.jsonl");
}

#[test]
fn what_is_before_the_first_placeholder_is_the_base() {
    for (text, base, depth) in [
        ("a.jsonl", ".", 0),
        ("/var/log/a.jsonl", "/var/log", 0),
        ("../x/%Y/m/%d.csv", "../x", 2),
        ("a%%b/%Y/x", "a%b", 1),
        ("%Y.csv", ".", 0),
    ] {
        let template = template(text);
        assert_eq!((template.base(), template.depth()), (Path::new(base), depth), "{text}");
    }
}

#[test]
fn other_placeholders_are_refused() {
    for text in
        ["%y.jsonl", "%", "a-%N.csv", "%{host}.jsonl", "% d", "x%", "%Y/../x", "%Y/", "/", "..", "%F.csv"]
    {
        assert!(matches!(Template::parse(text), Err(Error::Option(_))), "{text}");
    }
    assert_eq!(name("a/../b-%Y", 1), "b-2026");
}

#[test]
fn names_are_read_back() {
    let hours = "flows-%Y%m%d-%H.jsonl";
    let made = |number, form| Some(Made { time: Some(at("2026-02-09T04:00:00Z")), number, form });
    assert_eq!(read(hours, "flows-20260209-04.jsonl"), made(1, Form::Plain));
    assert_eq!(read(hours, "flows-20260209-04-2.jsonl"), made(2, Form::Plain));
    assert_eq!(read(hours, "flows-20260209-04-17.jsonl.zst"), made(17, Form::Packed(Compression::Zstd)));
    assert_eq!(read(hours, "flows-20260209-04.jsonl.gz.part"), made(1, Form::Part(Compression::Gzip)));
    for other in [
        "flows-20260209-24.jsonl",
        "flows-20260230-04.jsonl",
        "flows-20260209-04-1.jsonl",
        "flows-20260209-04-02.jsonl",
        "flows-20260209-04.jsonl.part",
        "flows-20260209-04.jsonl.xz",
        "flows-20260209-04.csv",
        "flows-20260209-4.jsonl",
        "flows-20260209-04.jsonl.1",
        "flows-20260209-04 (copy).jsonl",
        "Flows-20260209-04.jsonl",
        "x/flows-20260209-04.jsonl",
        "flows-2026020९-04.jsonl",
        "",
    ] {
        assert_eq!(read(hours, other), None, "{other}");
    }
}

#[test]
fn folders_and_repeated_places_have_to_agree() {
    let text = "%Y/%m/%Y%m%d.csv.gz";
    assert!(read(text, "2026/02/20260209.csv.gz").is_some());
    assert!(read(text, "2026/02/20260209-3.csv.gz.part").is_some());
    assert_eq!(read(text, "2026/03/20260209.csv.gz"), None);
    assert_eq!(read(text, "2025/02/20260209.csv.gz"), None);
    assert_eq!(read(text, "2026/02/20260209.csv"), None);
    assert_eq!(read(text, "2026/02/20260209.csv.zst"), None);
    let template = template(text);
    assert!(template.makes_folder(0, "2026") && template.makes_folder(1, "12"));
    assert!(!template.makes_folder(0, "latest") && !template.makes_folder(1, "13"));
    assert!(!template.makes_folder(2, "2026"));
}

#[test]
fn names_without_a_day_have_no_time() {
    assert_eq!(read("%H.jsonl", "04-2.jsonl"), Some(Made { time: None, number: 2, form: Form::Plain }));
    assert_eq!(read("a.jsonl", "a.jsonl"), Some(Made { time: None, number: 1, form: Form::Plain }));
    assert_eq!(read("a.jsonl", "b.jsonl"), None);
    assert_eq!(read("%s%Y.log", "17706099062026.log").unwrap().time, Some(at("2026-02-09T04:05:06Z")));
    assert_eq!(read("%s.log", "-5.log").unwrap().time, Some(Timestamp::from_nanos(-5_000_000_000)));
    assert_eq!(read("%s.log", "05.log"), None);
}

proptest! {
    #[test]
    fn every_name_is_read_back(seconds in -9_000_000_000i64..9_000_000_000, number in 1u32..1000, nth in 0usize..6) {
        let texts = [
            "flows-%Y%m%d-%H%M%S.jsonl", "%Y/%j/%H-%M-%S.csv.zst", "%s.log", "%Y-%m-%d-%s", "%Y/%m/%d/x.jsonl.gz", "%m-%d-%Y-5",
        ];
        let template = template(texts[nth]);
        let time = Timestamp::from_nanos(seconds * 1_000_000_000);
        let path = template.name(time, number);
        let made = template.read(&path).unwrap();
        prop_assert_eq!(made.number, number);
        prop_assert_eq!(template.name(made.time.unwrap(), number), path);
        prop_assert!(template.span() == 86_400_000_000_000 || made.time == Some(time));
    }

    #[test]
    fn no_name_makes_it_panic(text in "\\PC{0,20}") {
        if let Ok(template) = Template::parse(&text) {
            template.read(Path::new(&text));
        }
        template("%s%Y-%j.jsonl").read(Path::new(&text));
    }
}
