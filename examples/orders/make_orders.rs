//! `make-orders`: writes a file of orders to stdout, the same for the same counts. The shipped
//! `data/orders.csv` is what it writes by default.

use std::io::Write as _;

use clap::Parser;

/// Writes a CSV file of orders: mostly good ones, and some of every kind of trouble.
#[derive(Debug, Parser)]
struct Arguments {
    /// Good orders.
    #[arg(long, default_value_t = 3_000)]
    orders: u64,
}

const CUSTOMERS: [&str; 16] = [
    "Ada Obi",
    "Jürgen Groß",
    "Zoë Åkesson",
    "北村 さくら",
    "Łukasz Żak",
    "María-José Ñáñez",
    "Հովհաննես Սարյան",
    "O'Neill, Siobhán",
    "\"Big\" Tom & Sons, Ltd.",
    "Мария Иванова",
    "ليلى حداد",
    "Nguyễn Thị Hồng",
    "Renée d'Arcy",
    "İpek Şahin",
    "Ngozi 🌍 Eze",
    "Kwame, \"K.\"; Mensah",
];
const SKUS: [&str; 7] = ["TEA-100", "TEA-250", "CUP", "POT, LARGE", "KETTLE", "SPOON \"gold\"", "SIEB-ü"];

/// Lines that are no orders; `#` is the order's number.
const BAD: [&str; 9] = [
    "B-#,too,few",
    "B-#,too many,TEA-100,1,100,what is this",
    ",nobody knows the order,TEA-100,1,100",
    "B-#,no quantity,TEA-100,,100",
    "B-#,words for numbers,TEA-100,two,100",
    "B-#,nothing ordered,TEA-100,0,100",
    "B-#,a refund,TEA-100,1,-100",
    "B-#,\"a bell \u{7} in the name\",TEA-100,1,100",
    "B-#,not whole,TEA-100,1,10.50",
];

fn main() -> anyhow::Result<()> {
    let Arguments { orders } = Arguments::parse();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    writeln!(out, "order_id,customer,sku,quantity,cents")?;
    for number in 1..=orders {
        // Some spread that needs no random numbers.
        let mixed = xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes());
        let pick = |from: &[&'static str], shift: u32| from[(mixed >> shift) as usize % from.len()];
        let (customer, sku) = (pick(&CUSTOMERS, 8), pick(&SKUS, 16));
        let (quantity, cents) = (1 + (mixed >> 24) % 5, 250 + (mixed >> 32) % 20_000);
        let line = format!("S-{number:05},{},{},{quantity},{cents}", quoted(customer), quoted(sku));
        writeln!(out, "{line}")?;
        if number % 50 == 7 {
            writeln!(out, "{line}")?;
        }
        if number % 250 == 9 {
            writeln!(out, "S-{number:05},{},{},{quantity},{}", quoted(customer), quoted(sku), cents + 1)?;
        }
        if number % 90 == 11 {
            let bad = BAD[(number / 90) as usize % BAD.len()];
            writeln!(out, "{}", bad.replace('#', &number.to_string()))?;
        }
    }
    out.flush()?;
    Ok(())
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', ';']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}
