//! The file of orders: which lines are orders, which are duplicates, and which are bad, and why.
//!
//! The first line that names an order counts. The same line again is a duplicate; another line with the same
//! order id is bad, since nobody can say which of the two was meant.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;

use anyhow::{Context as _, bail};
use csv::ByteRecord;
use serde::{Deserialize, Serialize};

/// One order, as the workflow takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub id: String,
    pub customer: String,
    pub sku: String,
    pub quantity: u32,
    pub cents: u64,
}

/// The fields of a line, in their order.
pub const HEADER: [&str; 5] = ["order_id", "customer", "sku", "quantity", "cents"];

/// A workflow id has at most 255 bytes, and `order-` stands before the order's.
const ID_BYTES_MAX: usize = 249;

/// What a file holds.
#[derive(Debug, Default)]
pub struct Input {
    pub orders: Vec<Order>,
    pub duplicates: usize,
    pub bad: Vec<BadLine>,
}

/// A line that is no order.
#[derive(Debug, PartialEq, Eq)]
pub struct BadLine {
    pub line: u64,
    pub why: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl Input {
    /// Reads a whole file.
    ///
    /// # Errors
    /// When the file cannot be read or has another header: then no line of it can be trusted.
    pub fn read(file: impl Read) -> anyhow::Result<Self> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(file);
        let header = reader.byte_headers().context("cannot read the header")?;
        if !header.iter().eq(HEADER.iter().map(|name| name.as_bytes())) {
            let found: Vec<_> = header.iter().map(String::from_utf8_lossy).collect();
            bail!("the first line must be {:?}, but it is {:?}", HEADER.join(","), found.join(","));
        }
        let mut input = Self::default();
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut record = ByteRecord::new();
        while reader.read_byte_record(&mut record).context("cannot read on")? {
            let line = record.position().map_or(0, csv::Position::line);
            match order(&record) {
                Err(why) => input.bad.push(BadLine { line, why }),
                Ok(order) => match known.get(&order.id).map(|&at| &input.orders[at]) {
                    None => {
                        known.insert(order.id.clone(), input.orders.len());
                        input.orders.push(order);
                    }
                    Some(first) if *first == order => input.duplicates += 1,
                    Some(_) => {
                        let why = format!("order {:?} stands in the file before, with other content", order.id);
                        input.bad.push(BadLine { line, why });
                    }
                },
            }
        }
        Ok(input)
    }
}

fn order(record: &ByteRecord) -> Result<Order, String> {
    if record.len() != HEADER.len() {
        return Err(format!("{} fields where {} belong", record.len(), HEADER.len()));
    }
    let field = |at: usize| match std::str::from_utf8(&record[at]) {
        Ok("") => Err(format!("{} is empty", HEADER[at])),
        Ok(text) if text.contains(char::is_control) => Err(format!("{} has a control character", HEADER[at])),
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(format!("{} is not UTF-8", HEADER[at])),
    };
    fn positive<N: std::str::FromStr + PartialOrd + Default>(name: &str, text: &str) -> Result<N, String> {
        let number = text.parse::<N>().ok().filter(|number| *number > N::default());
        number.ok_or_else(|| format!("{name} is no positive whole number: {text:?}"))
    }
    let order = Order {
        id: field(0)?,
        customer: field(1)?,
        sku: field(2)?,
        quantity: positive(HEADER[3], &field(3)?)?,
        cents: positive(HEADER[4], &field(4)?)?,
    };
    if order.id.len() > ID_BYTES_MAX {
        return Err(format!("order_id has {} bytes; at most {ID_BYTES_MAX} are allowed", order.id.len()));
    }
    if i64::try_from(order.cents).is_err() {
        return Err(format!("cents is more than the database holds: {}", order.cents));
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Input {
        Input::read(format!("{}\n{lines}", HEADER.join(",")).as_bytes()).expect("the header is right")
    }

    #[test]
    fn quoted_and_non_ascii_fields_are_orders() {
        let input = read("A-1,\"Müller, \"\"Bee\"\" & Söhne\",TEA,2,1050\r\nA-2,北村 さくら,TEA,1,500\n");
        let customers: Vec<_> = input.orders.iter().map(|order| order.customer.as_str()).collect();
        assert_eq!(customers, ["Müller, \"Bee\" & Söhne", "北村 さくら"]);
        assert_eq!((input.orders[0].quantity, input.orders[0].cents), (2, 1050));
        assert_eq!(input.bad, []);
    }

    #[test]
    fn the_same_line_again_is_a_duplicate_and_with_other_content_it_is_bad() {
        let input = read("A-1,Bo,TEA,2,1050\nA-1,Bo,TEA,2,1050\nA-1,Bo,TEA,2,1051\n");
        assert_eq!((input.orders.len(), input.duplicates), (1, 1));
        assert_eq!(input.bad[0].to_string(), "line 4: order \"A-1\" stands in the file before, with other content");
    }

    #[test]
    fn bad_lines_are_told_with_line_and_reason() {
        let lines = "A-1,Bo,TEA,2\n,Bo,TEA,2,5\nA-2,Bo,TEA,zero,5\nA-3,Bo,TEA,2,-5\nA-4,Bo,TEA,0,5\n\
                     A-5,\"B\no\",TEA,2,5\nA-6,Bo,TEA,2,99999999999999999999\n";
        let why: Vec<_> = read(lines).bad.iter().map(BadLine::to_string).collect();
        assert_eq!(
            why,
            [
                "line 2: 4 fields where 5 belong",
                "line 3: order_id is empty",
                "line 4: quantity is no positive whole number: \"zero\"",
                "line 5: cents is no positive whole number: \"-5\"",
                "line 6: quantity is no positive whole number: \"0\"",
                "line 7: customer has a control character",
                "line 9: cents is no positive whole number: \"99999999999999999999\"",
            ]
        );
    }

    #[test]
    fn bytes_that_are_no_text_spoil_one_line_only() {
        let mut file = format!("{}\n", HEADER.join(",")).into_bytes();
        file.extend_from_slice(b"A-1,\xff\xfe,TEA,1,5\nA-2,Bo,TEA,1,5\n");
        let input = Input::read(&file[..]).expect("the header is right");
        assert_eq!(input.bad[0].to_string(), "line 2: customer is not UTF-8");
        assert_eq!(input.orders.len(), 1);
    }

    #[test]
    fn another_header_is_refused() {
        let error = Input::read(&b"id,name\n1,2\n"[..]).expect_err("wrong header");
        assert_eq!(
            error.to_string(),
            "the first line must be \"order_id,customer,sku,quantity,cents\", but it is \"id,name\""
        );
    }

    #[test]
    fn the_shipped_file_has_some_of_everything() {
        let input = Input::read(&include_bytes!("data/orders.csv")[..]).expect("it is ours");
        assert_eq!((input.orders.len(), input.duplicates, input.bad.len()), (3_000, 60, 46));
        assert!(input.orders.iter().any(|order| !order.customer.is_ascii()));
        assert!(input.orders.iter().any(|order| order.customer.contains('"')));
    }
}
