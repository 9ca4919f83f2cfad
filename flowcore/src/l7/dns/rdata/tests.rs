//! Bytes in, text out, worked out by hand from the RFCs.

use super::*;

/// Writes data that lies behind `before` in a message.
fn behind(before: &[u8], rtype: u16, data: &[u8]) -> (String, bool) {
    let message = [before, data, b"\x05after\x00"].concat();
    let mut out = Text::new(4000);
    let data = Data::new(&message, before.len(), data.len());
    let sound = data.write(RecordType(rtype), &mut Steps::new(), &mut out);
    (out.as_str().unwrap().to_owned(), sound)
}

fn sound(rtype: u16, data: &[u8]) -> String {
    let (text, sound) = behind(b"", rtype, data);
    assert!(sound, "{text}");
    text
}

fn unsound(rtype: u16, data: &[u8]) -> String {
    let (text, sound) = behind(b"", rtype, data);
    assert!(!sound, "{text}");
    text
}

#[test]
fn addresses() {
    assert_eq!(sound(1, &[192, 0, 2, 1]), "192.0.2.1");
    assert_eq!(sound(28, b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"), "2001:db8::1");
    assert_eq!(unsound(1, &[192, 0, 2]), r"\# 3 C00002");
    assert_eq!(unsound(1, &[192, 0, 2, 1, 9]), r"\# 5 C000020109");
    assert_eq!(unsound(28, b""), r"\# 0");
}

#[test]
fn names() {
    for rtype in [2, 3, 4, 5, 7, 8, 9, 12, 23, 39] {
        assert_eq!(sound(rtype, b"\x01a\x02bc\x00"), "a.bc");
    }
    assert_eq!(behind(b"\x07example\x00", 12, b"\x03w w\xc0\x00"), (r"w\032w.example".into(), true));
    assert_eq!(sound(12, b"\x02\xc3\xa9\x00"), r"\195\169");
    // Bytes behind the name, and a name that does not end within the data.
    assert_eq!(unsound(5, b"\x01a\x00\x01"), r"\# 4 01610001");
    assert_eq!(unsound(5, b"\x01a"), r"\# 2 0161");
    assert_eq!(unsound(5, b"\xc0\x00"), r"\# 2 C000");
}

#[test]
fn mx_srv_soa() {
    assert_eq!(sound(15, b"\x00\x0a\x04mail\x00"), "10 mail");
    assert_eq!(sound(15, b"\x00\x00\x00"), "0 .");
    assert_eq!(sound(33, b"\x00\x01\x00\x02\x13\xc4\x03sip\x00"), "1 2 5060 sip");
    let soa = b"\x02ns\x00\x04host\x00\x78\x4a\x9d\x01\x00\x00\x0e\x10\x00\x00\x03\x84\x00\x12\x75\x00\x00\x00\x00\x3c";
    assert_eq!(sound(6, soa), "ns host 2018155777 3600 900 1209600 60");
    assert_eq!(
        sound(6, &[&b"\x01\xff"[..], &soa[3..]].concat()),
        r"\255 host 2018155777 3600 900 1209600 60"
    );
    assert_eq!(unsound(6, &soa[..20]), format!("\\# 20 {}", hex(&soa[..20])));
    assert_eq!(unsound(15, b"\x00"), r"\# 1 00");
    assert_eq!(unsound(33, b"\x00\x01\x00\x02\x13\xc4"), r"\# 6 0001000213C4");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[test]
fn strings() {
    for rtype in [16, 56, 99, 258, 261, 262] {
        assert_eq!(sound(rtype, b"\x05ab\"c\\\x00\x02\xc3\n"), r#""ab\"c\\" "" "\195\010""#);
    }
    assert_eq!(unsound(16, b"\x05ab"), r"\# 3 056162");
    assert_eq!(unsound(16, b""), r"\# 0");
    assert_eq!(sound(13, b"\x03PDP\x04UNIX"), r#""PDP" "UNIX""#);
    assert_eq!(sound(19, b"\x03311"), r#""311""#);
    assert_eq!(unsound(13, b"\x03PDP"), r"\# 4 03504450");
}

#[test]
fn numbers_and_names() {
    for rtype in [14, 17, 58] {
        assert_eq!(sound(rtype, b"\x01a\x00\x01b\x00"), "a b");
    }
    for rtype in [18, 21, 36, 107] {
        assert_eq!(sound(rtype, b"\x00\x05\x01a\x00"), "5 a");
    }
    assert_eq!(sound(26, b"\x00\x05\x01a\x00\x01b\x00"), "5 a b");
    assert_eq!(
        sound(35, b"\x00\x64\x00\x0a\x01u\x07E2U+sip\x05!^.*$\x00"),
        r#"100 10 "u" "E2U+sip" "!^.*$" ."#
    );
}

#[test]
fn dnssec() {
    for rtype in [43, 59, 32768, 32769] {
        assert_eq!(sound(rtype, b"\xec\x45\x05\x01\x2b\xb1\x83"), "60485 5 1 2BB183");
    }
    for rtype in [25, 48, 57, 60] {
        assert_eq!(sound(rtype, b"\x01\x01\x03\x05foob"), "257 3 5 Zm9vYg==");
    }
    // RFC 4034, section 3.3: the times of its example.
    let rrsig = b"\x00\x01\x05\x03\x00\x01\x51\x80\x3e\x7c\x9d\xd7\x3e\x55\x10\xd7\x0a\x52\x07example\x00foo";
    for rtype in [24, 46] {
        assert_eq!(sound(rtype, rrsig), "A 5 3 86400 20030322173103 20030220173103 2642 example Zm9v");
    }
    // RFC 4034, section 4.3: A MX RRSIG NSEC TYPE1234 in two windows.
    let mut nsec = b"\x04host\x07example\x03com\x00\x00\x06\x40\x01\x00\x00\x00\x03\x04\x1b".to_vec();
    nsec.extend([0; 26]);
    nsec.push(0x20);
    assert_eq!(sound(47, &nsec), "host.example.com A MX RRSIG NSEC TYPE1234");
    // RFC 5155, appendix A: salt AABBCCDD, hash 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR.
    let hash = b"\x17\x4e\xb2\x40\x9f\xe2\x8b\xcb\x48\x87\xa1\x83\x6f\x95\x7f\x0a\x84\x25\xe2\x7b";
    let nsec3 = [&b"\x01\x01\x00\x0c\x04\xaa\xbb\xcc\xdd\x14"[..], hash, b"\x00\x01\x40"].concat();
    assert_eq!(sound(50, &nsec3), "1 1 12 AABBCCDD 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR A");
    assert_eq!(sound(51, b"\x01\x00\x00\x00\x00"), "1 0 0 -");
    assert_eq!(sound(62, b"\x00\x00\x00\x07\x00\x03\x00\x01\x40"), "7 3 A");
    assert_eq!(sound(63, b"\x00\x00\x00\x07\x01\x02\xab"), "7 1 2 AB");
}

#[test]
fn type_bitmaps_that_break_the_rules() {
    // No bytes, more than 32, a window that does not rise, one that is cut.
    for bitmap in [&b"\x00\x00"[..], b"\x00\x21", b"\x01\x01\x40\x01\x01\x40", b"\x00\x02\x40", b"\x00"] {
        unsound(47, &[b"\x00", bitmap].concat());
    }
    assert_eq!(sound(47, b"\x00"), ".");
}

#[test]
fn certificates_and_keys() {
    assert_eq!(sound(44, b"\x02\x01\x12\x34\xab"), "2 1 1234AB");
    for rtype in [52, 53] {
        assert_eq!(sound(rtype, b"\x03\x01\x01\xd2\xab"), "3 1 1 D2AB");
    }
    assert_eq!(sound(37, b"\x00\x01\x00\x02\x05fo"), "1 2 5 Zm8=");
    for rtype in [49, 61] {
        assert_eq!(sound(rtype, b"foobar"), "Zm9vYmFy");
    }
    assert_eq!(sound(257, b"\x00\x05issueca.example; a=\"b\""), r#"0 issue "ca.example; a=\"b\"""#);
    assert_eq!(sound(257, b"\x80\x05issue"), r#"128 issue """#);
}

#[test]
fn addresses_of_other_kinds() {
    assert_eq!(sound(104, b"\x00\x0a\x00\x14\x4f\xff\xff\x20\xee\x64"), "10 0014:4fff:ff20:ee64");
    assert_eq!(sound(106, b"\x00\x0a\x20\x01\x0d\xb8\x11\x40\x10\x00"), "10 2001:0db8:1140:1000");
    assert_eq!(sound(105, b"\x00\x0a\x0a\x01\x02\x00"), "10 10.1.2.0");
    assert_eq!(sound(108, b"\x00\x00\x5e\x00\x53\x2a"), "00-00-5e-00-53-2a");
    assert_eq!(sound(109, b"\x00\x00\x5e\xef\x10\x00\x00\x2a"), "00-00-5e-ef-10-00-00-2a");
    assert_eq!(unsound(108, b"\x00\x00\x5e\x00\x53"), r"\# 5 00005E0053");
    assert_eq!(sound(256, b"\x00\x0a\x00\x01ftp://a/"), r#"10 1 "ftp://a/""#);
}

#[test]
fn service_bindings() {
    for rtype in [64, 65] {
        assert_eq!(sound(rtype, b"\x00\x00\x03foo\x00"), "0 foo");
        assert_eq!(sound(rtype, b"\x00\x01\x00"), "1 .");
    }
    assert_eq!(sound(65, b"\x00\x01\x00\x00\x01\x00\x06\x02h2\x02h3"), r#"1 . alpn="h2,h3""#);
    let all = [
        &b"\x00\x10\x01a\x00"[..],
        b"\x00\x00\x00\x04\x00\x01\x00\x03",
        b"\x00\x01\x00\x03\x02h2",
        b"\x00\x02\x00\x00",
        b"\x00\x03\x00\x02\x20\xfb",
        b"\x00\x04\x00\x08\xc0\x00\x02\x01\xc0\x00\x02\x02",
        b"\x00\x05\x00\x03foo",
        b"\x00\x06\x00\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01",
        b"\x00\x07\x00\x07/q{?dns",
        b"\x00\x08\x00\x00",
        b"\x02\x9b\x00\x05hello",
        b"\xff\xfe\x00\x00",
    ]
    .concat();
    assert_eq!(
        sound(65, &all),
        concat!(
            r#"16 a mandatory=alpn,port alpn="h2" no-default-alpn port=8443 ipv4hint=192.0.2.1,192.0.2.2 "#,
            r#"ech=Zm9v ipv6hint=2001:db8::1 dohpath="/q{?dns" ohttp key667="hello" key65534"#
        )
    );
    // RFC 9460, figure 10: a comma and a backslash inside of ids.
    let odd = b"\x00\x10\x00\x00\x01\x00\x0c\x08f\\oo,bar\x02h2";
    assert_eq!(sound(64, odd), r#"16 . alpn="f\\\\oo\\,bar,h2""#);
}

#[test]
fn service_parameters_that_break_the_rules() {
    for params in [
        &b"\x00\x03\x00\x02\x00\x01\x00\x01\x00\x03\x02h2"[..],
        b"\x00\x03\x00\x03\x00\x01\x02",
        b"\x00\x01\x00\x03\x05h2",
        b"\x00\x01\x00\x01\x00",
        b"\x00\x04\x00\x03abc",
        b"\x00\x02\x00\x01a",
        b"\x00\x01\x00\x00",
        b"\x00\x03\x00",
    ] {
        unsound(65, &[b"\x00\x01\x00", params].concat());
    }
}

#[test]
fn all_others() {
    assert_eq!(sound(29, b"\x00\x12"), r"\# 2 0012");
    assert_eq!(sound(65280, b""), r"\# 0");
    assert_eq!(sound(10, b"\xff"), r"\# 1 FF");
}

#[test]
fn too_long_is_left_out() {
    let mut out = Text::new(10);
    let message = [0xAB; 200];
    Data::new(&message, 0, 200).write(RecordType(65280), &mut Steps::new(), &mut out);
    assert_eq!(out.as_str(), None);
}
