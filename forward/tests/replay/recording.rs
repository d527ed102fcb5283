//! The recordings as text, see `tests/recorded/README.md`.

/// A side of the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dev {
    C,
    R,
}

/// What came in, and what left because of it.
#[derive(Debug)]
pub struct Step {
    pub label: String,
    pub dev: Dev,
    pub came: Vec<Vec<u8>>,
    pub left: Vec<(Dev, Vec<u8>)>,
}

#[derive(Debug, Default)]
pub struct Case {
    pub name: String,
    pub setup: Vec<String>,
    pub sysctls: Vec<(String, u32)>,
    pub mtu: (u16, u16),
    pub steps: Vec<Step>,
}

impl Case {
    pub fn sysctl(&self, name: &str) -> Option<u32> {
        self.sysctls.iter().find(|(it, _)| it == name).map(|(_, value)| *value)
    }
}

/// All cases of all files, in the order of their names.
pub fn all() -> Vec<Case> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded");
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut cases = Vec::new();
    for file in files.filter(|path| path.extension().is_some_and(|it| it == "txt")) {
        let text = std::fs::read_to_string(file).unwrap();
        text.lines().for_each(|line| read(line, &mut cases));
    }
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    cases
}

fn read(line: &str, cases: &mut Vec<Case>) {
    let Some((word, rest)) = line.split_once(' ') else { return };
    if word == "case" {
        return cases.push(Case { name: rest.into(), ..Case::default() });
    }
    let case = cases.last_mut().unwrap();
    let pair = || rest.split_once(' ').unwrap();
    match word {
        "setup" => case.setup.push(rest.into()),
        "sysctl" => case.sysctls.push((pair().0.into(), pair().1.parse().unwrap())),
        "mtu" => case.mtu = (pair().0.parse().unwrap(), pair().1.parse().unwrap()),
        "step" => {
            let (label, dev) = (pair().0.into(), dev(pair().1));
            case.steps.push(Step { label, dev, came: vec![], left: vec![] });
        }
        ">" => case.steps.last_mut().unwrap().came.push(bytes(rest)),
        "<" => case.steps.last_mut().unwrap().left.push((dev(pair().0), bytes(pair().1))),
        _ => panic!("what is {line}"),
    }
}

fn dev(text: &str) -> Dev {
    if text == "c" { Dev::C } else { Dev::R }
}

fn bytes(text: &str) -> Vec<u8> {
    let byte = |hex: &str| u8::from_str_radix(hex, 16).unwrap();
    let part = |part: &str| match part.split_once('*') {
        Some((hex, count)) => vec![byte(hex); count.parse().unwrap()],
        None => (0..part.len()).step_by(2).map(|at| byte(&part[at..at + 2])).collect(),
    };
    text.split('.').flat_map(part).collect()
}
