//! What things are painted with: names that mean the same in light and in dark.

/// A role that a colour plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Behind everything.
    Surface,
    Text,
    /// Labels and secondary words.
    Muted,
    /// Lines that guide the eye and should not catch it.
    Grid,
    /// Something went wrong: lost, failed, partitioned.
    Bad,
    /// Somebody leads.
    Leader,
    /// Somebody wants to.
    Candidate,
    /// Somebody follows.
    Follower,
    /// One of several things without an order.
    Series(usize),
    /// A step on a scale from little to much.
    Ramp(usize),
}

/// Light and dark of the inks that are not numbered.
const NAMED: [(Ink, &str, u32, u32); 8] = [
    (Ink::Surface, "surface", 0xff_ffff, 0x16_1b22),
    (Ink::Text, "text", 0x1a_2230, 0xe3_e8ef),
    (Ink::Muted, "muted", 0x5c_677a, 0x97_a3b6),
    (Ink::Grid, "grid", 0xe2_e7ee, 0x2b_3340),
    (Ink::Bad, "bad", 0xd0_3a3a, 0xff_7b72),
    (Ink::Leader, "leader", 0xd9_9a06, 0xf2_bd3d),
    (Ink::Candidate, "candidate", 0xd8_6a1b, 0xff_9d57),
    (Ink::Follower, "follower", 0xa9_b4c4, 0x4a_5567),
];

/// Things without an order; neighbours are told apart also by those who see few colours.
const SERIES: [(u32, u32); 8] = [
    (0x2b_6cd9, 0x6c_a5ff),
    (0xd9_731a, 0xff_a657),
    (0x0d_8f7e, 0x3f_d0bb),
    (0xb8_3b86, 0xf0_86c4),
    (0x6f_4bc9, 0xb3_94ff),
    (0x8f_7a0a, 0xd9_c34a),
    (0x56_6377, 0x9a_a8bd),
    (0x3b_8f2f, 0x7c_d36b),
];

/// From little, cool, to much, hot.
const RAMP: [(u32, u32); 8] = [
    (0x14_9a94, 0x3f_cfc6),
    (0x2a_86cc, 0x5f_b2f5),
    (0x44_66dd, 0x86_9cff),
    (0x74_4fd2, 0xae_8cff),
    (0xa0_3dba, 0xd8_80f2),
    (0xc9_3a8a, 0xf7_83c0),
    (0xdb_4a4a, 0xff_8a80),
    (0xe2_731c, 0xff_ad66),
];

impl Ink {
    /// The steps of the ramp for so many things, from cool to hot.
    pub(crate) fn ramp(place: usize, of: usize) -> Self {
        Self::Ramp(if of < 2 { 2 } else { place * (RAMP.len() - 1) / (of - 1) })
    }

    /// Its name in style sheets.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Series(place) => format!("series{}", place % SERIES.len()),
            Self::Ramp(place) => format!("ramp{}", place % RAMP.len()),
            named => NAMED.iter().find(|(ink, ..)| *ink == named).map_or("text", |row| row.1).to_owned(),
        }
    }

    /// Its colour where it is light.
    pub(crate) fn light(self) -> [u8; 3] {
        let rgb = match self {
            Self::Series(place) => SERIES[place % SERIES.len()].0,
            Self::Ramp(place) => RAMP[place % RAMP.len()].0,
            named => NAMED.iter().find(|(ink, ..)| *ink == named).map_or(0, |row| row.2),
        };
        let [_, red, green, blue] = rgb.to_be_bytes();
        [red, green, blue]
    }
}

fn all() -> impl Iterator<Item = (String, u32, u32)> {
    let named = NAMED.iter().map(|&(_, name, light, dark)| (name.to_owned(), light, dark));
    let series = SERIES.iter().enumerate().map(|(at, &(light, dark))| (format!("series{at}"), light, dark));
    let ramp = RAMP.iter().enumerate().map(|(at, &(light, dark))| (format!("ramp{at}"), light, dark));
    named.chain(series).chain(ramp)
}

/// The inks as CSS variables, and the classes that pictures use. A page may force one with `data-theme`.
pub(crate) fn style_sheet() -> String {
    let variables = |pick: fn(u32, u32) -> u32| -> String {
        all().map(|(name, light, dark)| format!("--{name}:#{:06x};", pick(light, dark))).collect()
    };
    let (light, dark) = (variables(|light, _| light), variables(|_, dark| dark));
    let classes: String = all()
        .map(|(name, ..)| format!(".f-{name}{{fill:var(--{name})}}.s-{name}{{stroke:var(--{name})}}\n"))
        .collect();
    format!(
        ":root{{{light}color-scheme:light}}\n\
         @media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}color-scheme:dark}}}}\n\
         :root[data-theme=dark]{{{dark}color-scheme:dark}}\n{classes}"
    )
}

/// The same for a file of its own, whose readers may know no variables.
pub(super) fn plain_style_sheet() -> String {
    let rules = |pick: fn(u32, u32) -> u32| -> String {
        let rule = |(name, light, dark): (String, u32, u32)| {
            let color = pick(light, dark);
            format!(".f-{name}{{fill:#{color:06x}}}.s-{name}{{stroke:#{color:06x}}}")
        };
        all().map(rule).collect()
    };
    format!("{}@media(prefers-color-scheme:dark){{{}}}", rules(|light, _| light), rules(|_, dark| dark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_goes_from_its_first_to_its_last_step() {
        assert_eq!((Ink::ramp(0, 6), Ink::ramp(5, 6)), (Ink::Ramp(0), Ink::Ramp(7)));
        assert_eq!(Ink::ramp(0, 1), Ink::Ramp(2));
        assert_eq!((Ink::Series(9).name(), Ink::Leader.name()), ("series1".into(), "leader".into()));
        assert_eq!(Ink::Surface.light(), [255, 255, 255]);
    }
}
