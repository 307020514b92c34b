//! The figures of a run, by row, and how they are printed.

/// One row's measurements.
#[derive(Debug, Default)]
struct Row {
    name: String,
    times: Vec<f64>,
    /// Each time's ratio to a lookup of the same round.
    ratios: Vec<f64>,
}

/// Every row, in the order they were first measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    fn row(&mut self, name: &str) -> &mut Row {
        let place = self.rows.iter().position(|row| row.name == name);
        let place = place.unwrap_or_else(|| {
            self.rows.push(Row { name: name.to_owned(), ..Row::default() });
            self.rows.len() - 1
        });
        &mut self.rows[place]
    }

    /// Notes a measurement.
    pub(crate) fn add(&mut self, name: &str, time: f64) {
        self.row(name).times.push(time);
    }

    /// Notes a measurement and the lookup it must be compared with.
    pub(crate) fn compare(&mut self, name: &str, time: f64, lookup: f64) {
        let row = self.row(name);
        row.times.push(time);
        row.ratios.push(time / lookup);
    }

    /// Prints every row.
    pub(crate) fn print(&self) {
        for Row { name, times, ratios } in &self.rows {
            let [low, median, high] = spread(times);
            print!("{name:<44}{median:>7.0}  [{low:>5.0} {high:>6.0}]");
            if ratios.is_empty() {
                println!();
            } else {
                let [low, median, high] = spread(ratios);
                println!("   {median:.2} [{low:.2} {high:.2}] x lookup");
            }
        }
    }
}

/// Least, median and greatest.
fn spread(values: &[f64]) -> [f64; 3] {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}
