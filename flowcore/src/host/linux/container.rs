//! Containers, known by the control group that their runtime made for them.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Containers by the id of their control group: the inode of its directory in the cgroup2 file system.
#[derive(Debug)]
pub(super) struct Cgroups {
    /// Where cgroup2 is mounted; none where it is not.
    root: Option<PathBuf>,
    containers: HashMap<u64, Option<String>>,
    /// When the directories were last walked.
    walked: Option<Instant>,
}

impl Cgroups {
    pub(super) fn new(root: Option<PathBuf>) -> Self {
        Cgroups { root, containers: HashMap::new(), walked: None }
    }

    /// Returns where cgroup2 is mounted, from the text of `/proc/self/mountinfo`.
    pub(super) fn mounted_at(mountinfo: &str) -> Option<PathBuf> {
        // ID PARENT DEVICE ROOT POINT OPTIONS [TAGS …] - TYPE SOURCE SUPER: proc_pid_mountinfo(5)
        let mut lines = mountinfo.lines().filter_map(|line| line.split_once(" - "));
        let (mount, _) = lines.find(|(_, kind)| kind.starts_with("cgroup2 "))?;
        mount.split(' ').nth(4).map(PathBuf::from)
    }

    /// Returns the container of a control group; walks the directories where the id is not known, once a second at
    /// most.
    pub(super) fn container(&mut self, id: u64) -> Option<String> {
        if !self.containers.contains_key(&id) && self.walked.is_none_or(|at| at.elapsed() > PAUSE) {
            self.walked = Some(Instant::now());
            self.containers.clear();
            self.walk();
        }
        self.containers.get(&id).cloned().flatten()
    }

    fn walk(&mut self) {
        let Some(root) = self.root.clone() else { return };
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            if self.containers.len() >= FOLDERS {
                return;
            }
            let Ok(about) = fs::symlink_metadata(&folder) else { continue };
            let path = folder.strip_prefix(&root).unwrap_or(Path::new("")).to_string_lossy();
            self.containers.insert(about.ino(), container_of(&path).map(str::to_owned));
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
            folders.extend(entries.flatten().filter(is_folder).map(|entry| entry.path()));
        }
    }
}

/// Returns the container id in the text of `/proc/PID/cgroup`; the line of cgroup2 comes last there and the
/// hierarchies of version 1 before it, and any of them may name the container.
pub(super) fn container_in(cgroup: &str) -> Option<&str> {
    // HIERARCHY:CONTROLLERS:PATH, and paths may have colons.
    cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).find_map(container_of)
}

/// Returns the container id in the path of a control group: the innermost segment that is made of 64 hexadecimal
/// digits, as `NAME-ID.scope` or bare, as Docker, containerd, CRI-O and Podman name them.
///
/// Below a container's own group there may be more groups (`…/libpod-ID.scope/container`). The groups of `conmon`,
/// which watches a container from outside, are none.
pub(super) fn container_of(path: &str) -> Option<&str> {
    path.rsplit('/').find_map(|segment| {
        let name = segment.strip_suffix(".scope").unwrap_or(segment);
        let (runtime, id) = name.rsplit_once(['-', ':']).unwrap_or(("", name));
        let is_id = id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (is_id && !runtime.ends_with("conmon")).then_some(id)
    })
}

/// How long an unknown control group stays unknown before the directories are walked again.
const PAUSE: Duration = Duration::from_secs(1);
/// How many control groups are walked at most.
const FOLDERS: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "7f1e0c3a9b2d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7";

    #[test]
    fn paths_of_the_runtimes() {
        for (path, runtime) in [
            ("/system.slice/docker-ID.scope", "Docker, systemd"),
            ("/docker/ID", "Docker, cgroupfs"),
            ("/docker/ID/system.slice/nginx.service", "systemd inside Docker"),
            ("/docker/ffff0c3a9b2d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7/docker/ID", "nested"),
            ("/kubepods/besteffort/pod2c48913c-b29f-11e7-9350-020968147796/ID", "kubelet, cgroupfs"),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-ID.scope",
                "CRI",
            ),
            ("/kubepods.slice/kubepods-pod1.slice/crio-ID.scope", "CRI-O"),
            ("/kubepods-besteffort-pod1.slice:cri-containerd:ID", "containerd without systemd"),
            ("/machine.slice/libpod-ID.scope", "Podman"),
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
                "Podman, split",
            ),
        ] {
            assert_eq!(container_of(&path.replace("ID", ID)), Some(ID), "{runtime}");
        }
    }

    #[test]
    fn paths_that_are_no_containers() {
        for path in [
            "/",
            "",
            "/user.slice/user-1000.slice/session-3.scope",
            "/system.slice/ssh.service",
            "/machine.slice/libpod-conmon-ID.scope",
            "/machine.slice/crio-conmon-ID.scope",
            "/docker/IDff",
            "/docker/2562e58e0baf088d39aa64208c7797a8",
        ] {
            assert_eq!(container_of(&path.replace("ID", ID)), None, "{path}");
        }
        assert_eq!(container_of(&format!("/docker/{}", ID.to_uppercase())), None);
    }

    #[test]
    fn any_hierarchy_may_name_it() {
        let text = format!(
            "12:pids:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/system.slice/containerd.service\n"
        );
        assert_eq!(container_in(&text), Some(ID));
        assert_eq!(container_in(&format!("0::/a:b/docker-{ID}.scope\n")), Some(ID));
        assert_eq!(container_in("0::/init.scope\n"), None);
        assert_eq!(container_in("nonsense"), None);
    }

    #[test]
    fn the_mount_of_cgroup2_is_found() {
        let hybrid = "30 24 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755\n\
                      31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n\
                      32 30 0:28 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory\n";
        assert_eq!(Cgroups::mounted_at(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(Cgroups::mounted_at("1 0 0:1 / / rw - ext4 /dev/vda rw\n"), None);
    }

    #[test]
    fn a_directory_is_found_by_its_inode() {
        let root = tempfile::tempdir().unwrap();
        let scope = root.path().join(format!("system.slice/docker-{ID}.scope"));
        fs::create_dir_all(&scope).unwrap();
        let mut cgroups = Cgroups::new(Some(root.path().to_owned()));
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(cgroups.container(inode(&scope)).as_deref(), Some(ID));
        assert_eq!(cgroups.container(inode(root.path())), None);

        // One that is made later is found when a second has passed.
        let later = root.path().join("init.scope/docker").join(ID);
        fs::create_dir_all(&later).unwrap();
        assert_eq!(cgroups.container(inode(&later)), None);
        cgroups.walked = Instant::now().checked_sub(PAUSE * 2);
        assert_eq!(cgroups.container(inode(&later)).as_deref(), Some(ID));
    }
}
