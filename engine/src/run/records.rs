//! The records of one open run, as bytes: most open runs wait, and there can be very many of them. They are read only
//! to replay and to describe the run.

use everpulse_protocol::history::Record;

/// Up to this size no room is kept for records to come.
const TIGHT_BYTES: usize = 4 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Records {
    packed: Vec<u8>,
    count: u32,
}

impl Records {
    /// Records that were packed before.
    pub fn of(packed: Vec<u8>, count: u32) -> Self {
        Self { packed, count }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.packed
    }

    pub fn push(&mut self, record: &Record) {
        let bytes = record.pack();
        if self.packed.len() < TIGHT_BYTES {
            self.packed.reserve_exact(bytes.len());
        }
        self.packed.extend_from_slice(&bytes);
        self.count += 1;
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How much room they take.
    pub fn bytes(&self) -> usize {
        self.packed.len()
    }

    /// The records from an offset on, about `bytes` of them and at least one, and where the next piece begins.
    pub fn piece(&self, offset: usize, bytes: usize) -> (Vec<Record>, usize) {
        let mut rest = self.packed.get(offset..).unwrap_or_default();
        let mut records = Vec::new();
        while !rest.is_empty() && (records.is_empty() || self.packed.len() - offset - rest.len() < bytes) {
            records.push(Record::unpack(&mut rest).expect("it was packed by `push`"));
        }
        (records, self.packed.len() - rest.len())
    }

    /// Where the record of a number begins; none beyond the end.
    pub fn offset(&self, number: u32) -> Option<usize> {
        let mut rest = self.packed.as_slice();
        for _ in 0..number {
            (!rest.is_empty()).then_some(())?;
            Record::unpack(&mut rest).expect("it was packed by `push`");
        }
        Some(self.packed.len() - rest.len())
    }

    pub fn iter(&self) -> impl Iterator<Item = Record> {
        let mut rest = self.packed.as_slice();
        (0..self.count).map(move |_| Record::unpack(&mut rest).expect("it was packed by `push`"))
    }
}
