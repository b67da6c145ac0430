//! Prints every path of the admin API with its methods, and why what is refused is refused, as a table.

use std::collections::BTreeMap;

fn main() {
    let mut paths: BTreeMap<(String, Option<&str>), Vec<&str>> = BTreeMap::new();
    for covered in everpulse_broker::admin::covered() {
        paths.entry((covered.path, covered.refused)).or_default().push(covered.method);
    }
    println!("| path | methods | |\n|---|---|---|");
    for ((path, refused), methods) in paths {
        println!("| `{path}` | {} | {} |", methods.join(", "), refused.map_or("", |reason| reason));
    }
}
