//! What is expected of a machine's sockets, and what differs from it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::RangeInclusive;

use super::allow::Allow;
use super::changes::last_snapshot;
use super::role::{Listeners, Role};
use crate::record::{AlertRecord, Rule, SocketRecord};
use crate::time::Timestamp;

/// What is expected: sockets that were seen before, listeners that are allowed, or both.
///
/// Listeners are compared by protocol, class of local address, port and executable; outgoing connections by protocol,
/// remote address, remote port and executable; accepted ones by protocol, local port, remote address and executable.
/// An executable that is not known matches any.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// None where there are allow rules only: then nothing but listeners is compared.
    known: Option<Known>,
    allow: Vec<Allow>,
    ephemeral: RangeInclusive<u16>,
}

/// Something that is not as expected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Which expectation was not met.
    pub rule: Rule,
    /// What the socket is there for.
    pub role: Role,
    /// The first record of the socket; of a listener that is gone, the last one of the baseline.
    pub socket: SocketRecord,
    /// The executables that the baseline has in this role; not known ones are left out.
    pub instead_of: Vec<String>,
}

/// The sockets of a baseline.
#[derive(Clone, Debug)]
struct Known {
    roles: Roles<()>,
    /// Listeners that were there at the end, with their last records.
    listening: Roles<SocketRecord>,
    listeners: Listeners,
    programs: BTreeSet<String>,
}

impl Baseline {
    /// Makes a baseline of records: of one snapshot, or of all that a file holds of them. What was seen at any time
    /// is known; what is there at the end may be gone later.
    ///
    /// UDP sockets bound to a port of the range `ephemeral` (the kernel's `ip_local_port_range`) are no listeners.
    pub fn from_records(records: &[SocketRecord], ephemeral: RangeInclusive<u16>) -> Self {
        let listeners = Listeners::among(records.iter().map(|record| &record.socket));
        let mut known = Known {
            roles: Roles::default(),
            listening: Roles::default(),
            programs: records.iter().filter_map(exe).map(str::to_owned).collect(),
            listeners,
        };
        for record in records {
            let role = Role::of(&record.socket, &[&known.listeners], &ephemeral);
            known.roles.add(role, exe(record), || ());
        }
        for record in last_snapshot(records) {
            let role = Role::of(&record.socket, &[&known.listeners], &ephemeral);
            if matches!(role, Role::Listener { .. }) {
                known.listening.add(role, exe(record), || record.clone());
            }
        }
        Baseline { known: Some(known), allow: Vec::new(), ephemeral }
    }

    /// Makes a baseline in which nothing is known: listeners are compared with allow rules, and nothing else is.
    pub fn of_rules(allow: Vec<Allow>, ephemeral: RangeInclusive<u16>) -> Self {
        Baseline { known: None, allow, ephemeral }
    }

    /// Allows further listeners.
    pub fn allow(mut self, rules: impl IntoIterator<Item = Allow>) -> Self {
        self.allow.extend(rules);
        self
    }

    /// Returns what is new and what is gone: in a snapshot, or in all that a file holds of them.
    ///
    /// New is what was seen at any time; gone is a listener that is not there at the end. Each rule, role and
    /// executable stands once, unexpected listeners first.
    pub fn compare(&self, now: &[SocketRecord]) -> Vec<Difference> {
        let listeners = Listeners::among(now.iter().map(|record| &record.socket));
        let mut found = Found::default();
        let mut programs = HashSet::new();
        for record in now {
            let role = self.role(record, &listeners);
            let exe = exe(record);
            if self.expects(&role, record) {
                continue;
            }
            let instead_of =
                self.known.as_ref().map(|known| known.roles.executables(&role)).unwrap_or_default();
            let rule = match role {
                Role::Listener { .. } => Some(Rule::UnexpectedListener),
                Role::Outgoing { .. } => Some(Rule::NewRemote),
                Role::Accepted { .. } => Some(Rule::NewClient),
                Role::Other { .. } => None,
            };
            if let Some(rule) = rule {
                found.add(rule, role, record, instead_of);
            }
            if let (Some(exe), Some(known)) = (exe, &self.known)
                && !known.programs.contains(exe)
                && programs.insert(exe)
            {
                found.add(Rule::NewProcess, role, record, Vec::new());
            }
        }
        if let Some(known) = &self.known {
            let mut present = Roles::default();
            for record in last_snapshot(now) {
                present.add(self.role(record, &listeners), exe(record), || ());
            }
            for (role, exe, record) in known.listening.iter() {
                if !present.has(role, exe) {
                    found.add(Rule::GoneListener, *role, record, Vec::new());
                }
            }
        }
        found.differences()
    }

    fn role(&self, record: &SocketRecord, listeners: &Listeners) -> Role {
        // A listener may have closed while its connections live on; the baseline remembers it.
        match &self.known {
            Some(known) => Role::of(&record.socket, &[listeners, &known.listeners], &self.ephemeral),
            None => Role::of(&record.socket, &[listeners], &self.ephemeral),
        }
    }

    fn expects(&self, role: &Role, record: &SocketRecord) -> bool {
        let process = record.process.as_ref().and_then(|object| object.process()).map(|process| &**process);
        let is_known = match &self.known {
            Some(known) => known.roles.has(role, exe(record)),
            None => !matches!(role, Role::Listener { .. }),
        };
        is_known || self.allow.iter().any(|rule| rule.allows(role, process))
    }
}

/// Compares one snapshot after the other with a baseline, and tells each difference once.
#[derive(Clone, Debug)]
pub struct Alarm {
    baseline: Baseline,
    compared_with: String,
    raised: HashSet<(Rule, Option<Role>, Option<String>)>,
}

impl Alarm {
    /// Makes an alarm; `compared_with` is how people call the baseline.
    pub fn new(baseline: Baseline, compared_with: impl Into<String>) -> Self {
        Alarm { baseline, compared_with: compared_with.into(), raised: HashSet::new() }
    }

    /// Takes the snapshot of the time `at`, or all that a file holds; returns the alerts that were not raised before.
    pub fn check(&mut self, now: &[SocketRecord], at: Timestamp) -> Vec<AlertRecord> {
        let differences = self.baseline.compare(now).into_iter();
        let new = differences.filter(|difference| {
            // A program is new once, whatever its sockets do.
            let role = Some(difference.role).filter(|_| difference.rule != Rule::NewProcess);
            self.raised.insert((difference.rule, role, exe(&difference.socket).map(str::to_owned)))
        });
        new.map(|difference| difference.alert(at, &self.compared_with)).collect()
    }
}

/// Which executables were seen in which role.
#[derive(Clone, Debug)]
struct Roles<T>(BTreeMap<Role, BTreeMap<Option<String>, T>>);

impl<T> Default for Roles<T> {
    fn default() -> Self {
        Roles(BTreeMap::new())
    }
}

impl<T> Roles<T> {
    fn add(&mut self, role: Role, exe: Option<&str>, value: impl FnOnce() -> T) {
        self.0.entry(role).or_default().insert(exe.map(str::to_owned), value());
    }

    /// Tells whether the role was seen with this executable; one that is not known matches any.
    fn has(&self, role: &Role, exe: Option<&str>) -> bool {
        let is_same = |seen: &Option<String>| seen.is_none() || exe.is_none() || seen.as_deref() == exe;
        self.0.get(role).is_some_and(|seen| seen.keys().any(is_same))
    }

    fn executables(&self, role: &Role) -> Vec<String> {
        self.0.get(role).into_iter().flat_map(|seen| seen.keys().flatten().cloned()).collect()
    }

    fn iter(&self) -> impl Iterator<Item = (&Role, Option<&str>, &T)> {
        let each = |(role, seen)| -> Vec<_> {
            let seen: &BTreeMap<Option<String>, T> = seen;
            seen.iter().map(|(exe, value)| (role, exe.as_deref(), value)).collect()
        };
        self.0.iter().flat_map(each)
    }
}

/// Differences as they are found.
#[derive(Default)]
struct Found(BTreeMap<(Rule, Role, Option<String>), Difference>);

impl Found {
    fn add(&mut self, rule: Rule, role: Role, record: &SocketRecord, instead_of: Vec<String>) {
        let key = (rule, role, exe(record).map(str::to_owned));
        self.0.entry(key).or_insert_with(|| Difference { rule, role, socket: record.clone(), instead_of });
    }

    /// Returns the differences; one whose program is not known only if none of the same role has a known one.
    fn differences(self) -> Vec<Difference> {
        let named: HashSet<(Rule, Role)> =
            self.0.keys().filter(|key| key.2.is_some()).map(|key| (key.0, key.1)).collect();
        let each = self.0.into_iter();
        each.filter(|(key, _)| key.2.is_some() || !named.contains(&(key.0, key.1)))
            .map(|(_, it)| it)
            .collect()
    }
}

/// Returns the path of the executable that owns a socket, where it is known.
fn exe(record: &SocketRecord) -> Option<&str> {
    record.process.as_ref()?.process()?.exe_path()
}

#[cfg(test)]
mod tests;
