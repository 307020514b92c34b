//! The figures of a run, by row, and how they are printed.

/// One row's measurements.
#[derive(Debug, Default)]
struct Row {
    name: String,
    times: Vec<f64>,
    /// Each time's ratio to that of something else in the same round.
    ratios: Vec<f64>,
    /// What that is.
    beside: &'static str,
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

    /// Notes measurements.
    pub(crate) fn add_all(&mut self, name: &str, times: impl IntoIterator<Item = f64>) {
        self.row(name).times.extend(times);
    }

    /// Notes a measurement and what it must be compared with: its time, and what it is.
    pub(crate) fn compare(&mut self, name: &str, time: f64, (other, beside): (f64, &'static str)) {
        let row = self.row(name);
        row.times.push(time);
        row.ratios.push(time / other);
        row.beside = beside;
    }

    /// Prints every row.
    pub(crate) fn print(&self) {
        for Row { name, times, ratios, beside } in &self.rows {
            let [low, median, high] = spread(times);
            print!("{name:<66}{median:>7.0}  [{low:>5.0} {high:>6.0}]");
            if ratios.is_empty() {
                println!();
            } else {
                let [low, median, high] = spread(ratios);
                println!("   {median:.2} [{low:.2} {high:.2}] x {beside}");
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
