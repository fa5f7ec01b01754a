//! Which faults a run may draw from.

use core::fmt;
use core::str::FromStr;

macro_rules! faults {
    ($($name:ident $text:literal $what:literal,)+) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Fault {
            $(#[doc = $what] $name,)+
        }

        impl Fault {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// What it does, in one line.
            #[must_use]
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$name => $what,)+ }
            }
        }
    };
}

faults! {
    Loss "loss" "Links lose datagrams independently, up to 65 %.",
    Burst "burst" "Links lose datagrams in bursts.",
    Duplicate "duplicate" "Links carry datagrams twice.",
    Replay "replay" "Links carry datagrams again, up to minutes later.",
    Reorder "reorder" "Links hold datagrams back.",
    Jitter "jitter" "Links are slow, and unevenly so.",
    Clog "clog" "A link holds everything back for a while, then delivers it.",
    Corrupt "corrupt" "Links flip bits.",
    ZeroCrc "zero-crc" "Links write zeros over checksums.",
    Truncate "truncate" "Links cut datagrams.",
    Extend "extend" "Links add bytes to datagrams.",
    Rate "rate" "Links are narrow, and their queues overflow.",
    Mtu "mtu" "Sockets refuse long datagrams.",
    Partition "partition" "Nodes are cut off from each other both ways.",
    OneWay "one-way" "Any set of one-way paths is cut.",
    Socket "socket" "Sockets refuse datagrams at random.",
    Kill "kill" "Processes end between any two effects.",
    PowerCut "power-cut" "Machines lose power, and what was not synced.",
    Pause "pause" "Processes stand still, 10 ms to 60 s.",
    SlowDisk "slow-disk" "Disks take up to a second.",
    HungDisk "hung-disk" "Disks do not answer for seconds.",
    DiskError "disk-error" "A write, sync or read fails.",
    FullDisk "full-disk" "A disk has no room.",
    Rot "rot" "Bits of a file flip while its node is down.",
    Misdirect "misdirect" "A block of a log file holds another one's content.",
    MissingFile "missing-file" "A file is gone.",
    Wipe "wipe" "A data folder is emptied.",
    OldBackup "old-backup" "An older copy of a data folder is put back.",
    Clock "clock" "Clocks run at half to double speed, and jump ahead.",
    ClientCrash "client-crash" "Clients end and come back as others.",
    Flood "flood" "Clients ask for hundreds of things at once.",
    Forge "forge" "Somebody sends datagrams of their own making.",
    Captured "captured" "Somebody plays whole captured stretches again.",
    Churn "churn" "Election timers are short.",
    SmallLimits "small-limits" "Windows, logs and buffers are small.",
    Ambush "ambush" "Crashes, pauses and cuts come right after elections, appends and commits.",
    Transfer "transfer" "Leadership is handed over.",
    Past "past" "A node hears the others ever later, and once its own words are lost, only what is over.",
    Snapshots "snapshots" "Snapshots are taken often, and little log is kept behind them.",
    DisjointRot "disjoint-rot" "Several nodes at once lose different records to flipped bits.",
    Members "members" "Nodes join, vote, move, go, and come back with empty folders; leaders are told to hand over.",
    Reads "reads" "Clients read under leases and at any node, and replicas compare their results.",
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultSet(u64);

impl FaultSet {
    /// No fault at all.
    pub const NONE: Self = Self(0);

    /// Every kind.
    #[must_use]
    pub fn all() -> Self {
        Fault::ALL.iter().fold(Self::NONE, |set, fault| set.with(*fault))
    }

    /// With this kind, too.
    #[must_use]
    pub const fn with(self, fault: Fault) -> Self {
        Self(self.0 | 1 << fault as u32)
    }

    /// Whether this kind is in it.
    #[must_use]
    pub const fn has(self, fault: Fault) -> bool {
        self.0 & 1 << fault as u32 != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All in it, in order.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::ALL.iter().copied().filter(move |fault| self.has(*fault))
    }
}

impl FromIterator<Fault> for FaultSet {
    fn from_iter<I: IntoIterator<Item = Fault>>(faults: I) -> Self {
        faults.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Display for FaultSet {
    /// As it is parsed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::all() {
            return f.write_str("all");
        }
        if self.is_empty() {
            return f.write_str("none");
        }
        f.write_str(&self.iter().map(Fault::name).collect::<Vec<_>>().join(","))
    }
}

impl FromStr for FaultSet {
    type Err = UnknownFault;

    /// `all`, `none`, or names with commas between them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => return Ok(Self::all()),
            "none" => return Ok(Self::NONE),
            _ => {}
        }
        let find = |name: &str| Fault::ALL.iter().copied().find(|fault| fault.name() == name);
        let names = text.split(',').map(str::trim);
        names.map(|name| find(name).ok_or_else(|| UnknownFault { name: name.to_owned() })).collect()
    }
}

/// There is no fault of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFault {
    /// The name.
    pub name: String,
}

impl fmt::Display for UnknownFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Fault::ALL.iter().map(|fault| fault.name()).collect::<Vec<_>>().join(", ");
        write!(f, "no fault is called `{}`: all, none, or a list of {names}", self.name)
    }
}

impl core::error::Error for UnknownFault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_read_as_it_is_written() {
        for text in ["all", "none", "loss", "loss,crash"] {
            match text.parse::<FaultSet>() {
                Ok(set) => assert_eq!(set.to_string(), text),
                Err(error) => assert_eq!(error.name, "crash"),
            }
        }
        let one_by_one: FaultSet = Fault::ALL.iter().copied().collect();
        assert_eq!(one_by_one.to_string(), "all");
        assert!("".parse::<FaultSet>().is_err());
    }
}
