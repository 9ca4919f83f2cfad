//! Files of a capture that gives up root: who owns them, and those that the user may not touch.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use super::stand::{Stand, numbers};

#[test]
fn the_user_goes_on_with_what_root_has_opened() {
    let Some(stand) = Stand::live() else { return };
    let nobody = folder_of_nobody(&stand);
    let line = "-o out/%Y/f-%j.jsonl.zst -Z nobody --sandbox require --sync always";
    let flowcap = stand.listen(line);
    let end = stand.send_for(0, Duration::from_secs(1), 1_000);
    std::thread::sleep(Duration::from_secs(1));
    flowcap.kill();
    let names = stand.names("out");
    assert!(names.iter().all(|name| name.ends_with(".part")), "{names:?}");
    for name in &names {
        let path = stand.path("out").join(name);
        assert_eq!([owner(&path), owner(path.parent().unwrap())], [nobody, nobody], "{name}");
    }
    let mut flowcap = stand.listen(line);
    flowcap.wait_until("the leftover is finished", || {
        stand.names("out").iter().any(|name| !name.ends_with(".part"))
    });
    let ran = flowcap.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let all: String = stand.texts("out").into_values().collect();
    assert_eq!(numbers(&all), (0..end).collect::<Vec<_>>());
}

#[test]
fn a_file_is_written_in_a_folder_that_is_closed_to_the_user() {
    let Some(stand) = Stand::live() else { return };
    fs::create_dir(stand.path("closed")).unwrap();
    fs::set_permissions(stand.path("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    let flowcap = stand.listen("-o closed/f.jsonl -Z nobody --sandbox require -q");
    let end = stand.send_for(0, Duration::from_secs(3), 1_000);
    std::thread::sleep(Duration::from_secs(1));
    let ran = flowcap.stop();
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert_eq!(
        numbers(&fs::read_to_string(stand.path("closed/f.jsonl")).unwrap()),
        (0..end).collect::<Vec<_>>()
    );
}

#[test]
fn a_file_that_the_user_may_not_touch_hinders_no_other() {
    let Some(stand) = Stand::live() else { return };
    let (nobody, nobodys_group) = folder_of_nobody(&stand);
    let out = stand.path("out");
    let [roots, old] = ["f-20200101000000.jsonl", "f-20200102000000.jsonl"].map(|name| out.join(name));
    for path in [&roots, &old] {
        fs::write(path, "{}\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    chown(&old, Some(nobody), Some(nobodys_group)).unwrap();
    let line = "-o out/f-%Y%m%d%H%M%S.jsonl --rotate 1s --keep 2 -Z nobody --sandbox require";
    let mut flowcap = stand.listen(line);
    let mut next = 0;
    flowcap.wait_until("files are closed and deleted", || {
        next = stand.send_for(next, Duration::from_millis(500), 100);
        !old.exists() && next > 400
    });
    // The log is looked after once a second.
    stand.send_for(next, Duration::from_secs(3), 100);
    let ran = flowcap.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let told: Vec<&str> = ran.err.lines().filter(|line| line.contains("cannot be deleted")).collect();
    assert!(told.len() == 1 && told[0].contains("f-20200101000000.jsonl"), "{}", ran.err);
    assert!(roots.exists());
    // The thread that deletes may be one file behind when flowcap ends.
    let names = stand.names("out");
    assert!((2..=5).contains(&names.len()), "{names:?}");
}

/// Makes the folder `out`, in which that user alone may make files; returns its user and group.
fn folder_of_nobody(stand: &Stand) -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let fields = passwd.lines().find_map(|line| line.strip_prefix("nobody:")).expect("a user called nobody");
    let mut ids = fields.split(':').skip(1).map(|id| id.parse().unwrap());
    let (user, group) = (ids.next().unwrap(), ids.next().unwrap());
    fs::set_permissions(&stand.folder, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(stand.path("out")).unwrap();
    chown(stand.path("out"), Some(user), Some(group)).unwrap();
    (user, group)
}

fn owner(path: &Path) -> (u32, u32) {
    let about = fs::metadata(path).unwrap();
    (about.uid(), about.gid())
}
