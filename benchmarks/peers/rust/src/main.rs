//! peer BOOTSTRAP INPUT OUTPUT GROUP exactly_once|at_least_once typed|value
//! One thread polls, decodes and produces; librdkafka's own threads fetch and send.
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

type Res<T> = Result<T, Box<dyn Error>>;

const BATCH: usize = 1000;
const INTERVAL: Duration = Duration::from_secs(1);
const WAIT: Duration = Duration::from_secs(60);

// ---- decode ----

struct Summary<'a> {
    sequence_number: i64,
    epoch: i64,
    timestamp_ms: i64,
    content_digest: &'a str,
    previous_digest: Option<&'a str>,
    network_total_transactions: i64,
    transaction_count: i32,
    computation_cost: i64,
    storage_cost: i64,
    storage_rebate: i64,
    non_refundable_storage_fee: i64,
}

fn value(payload: &[u8], out: &mut Vec<u8>) -> Res<()> {
    fn long(v: &Value, k: &str) -> Res<i64> {
        v[k].as_i64().ok_or_else(|| format!("{k}: no whole number").into())
    }
    fn text<'a>(v: &'a Value, k: &str) -> Res<&'a str> {
        v[k].as_str().ok_or_else(|| format!("{k}: no string").into())
    }
    let root: Value = serde_json::from_slice(payload)?;
    let d = &root["checkpoint_summary"]["data"];
    let gas = &d["epoch_rolling_gas_cost_summary"];
    encode(
        &Summary {
            sequence_number: long(d, "sequence_number")?,
            epoch: long(d, "epoch")?,
            timestamp_ms: long(d, "timestamp_ms")?,
            content_digest: text(d, "content_digest")?,
            previous_digest: d["previous_digest"].as_str(),
            network_total_transactions: long(d, "network_total_transactions")?,
            transaction_count: root["transactions"].as_array().ok_or("transactions: no array")?.len() as i32,
            computation_cost: text(gas, "computationCost")?.parse()?,
            storage_cost: text(gas, "storageCost")?.parse()?,
            storage_rebate: text(gas, "storageRebate")?.parse()?,
            non_refundable_storage_fee: text(gas, "nonRefundableStorageFee")?.parse()?,
        },
        out,
    );
    Ok(())
}

#[derive(Deserialize)]
struct Checkpoint<'a> {
    #[serde(borrow)]
    checkpoint_summary: Signed<'a>,
    transactions: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct Signed<'a> {
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    sequence_number: i64,
    epoch: i64,
    timestamp_ms: i64,
    #[serde(borrow)]
    content_digest: Cow<'a, str>,
    #[serde(borrow)]
    previous_digest: Option<Cow<'a, str>>,
    network_total_transactions: i64,
    #[serde(borrow)]
    epoch_rolling_gas_cost_summary: Gas<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Gas<'a> {
    #[serde(borrow)]
    computation_cost: Cow<'a, str>,
    #[serde(borrow)]
    storage_cost: Cow<'a, str>,
    #[serde(borrow)]
    storage_rebate: Cow<'a, str>,
    #[serde(borrow)]
    non_refundable_storage_fee: Cow<'a, str>,
}

fn typed(payload: &[u8], out: &mut Vec<u8>) -> Res<()> {
    let c: Checkpoint = serde_json::from_slice(payload)?;
    let d = &c.checkpoint_summary.data;
    let gas = &d.epoch_rolling_gas_cost_summary;
    encode(
        &Summary {
            sequence_number: d.sequence_number,
            epoch: d.epoch,
            timestamp_ms: d.timestamp_ms,
            content_digest: &d.content_digest,
            previous_digest: d.previous_digest.as_deref(),
            network_total_transactions: d.network_total_transactions,
            transaction_count: c.transactions.len() as i32,
            computation_cost: gas.computation_cost.parse()?,
            storage_cost: gas.storage_cost.parse()?,
            storage_rebate: gas.storage_rebate.parse()?,
            non_refundable_storage_fee: gas.non_refundable_storage_fee.parse()?,
        },
        out,
    );
    Ok(())
}

// ---- Confluent framing + Avro binary of schemas/checkpoint-summary/v1.avsc ----

fn put_long(out: &mut Vec<u8>, n: i64) {
    let mut z = ((n << 1) ^ (n >> 63)) as u64;
    while z >= 0x80 {
        out.push(z as u8 | 0x80);
        z >>= 7;
    }
    out.push(z as u8);
}

fn put_str(out: &mut Vec<u8>, s: &str) {
    put_long(out, s.len() as i64);
    out.extend_from_slice(s.as_bytes());
}

fn encode(s: &Summary, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[0, 0, 0, 0, 1]);
    put_long(out, s.sequence_number);
    put_long(out, s.epoch);
    put_long(out, s.timestamp_ms);
    put_str(out, s.content_digest);
    match s.previous_digest {
        None => put_long(out, 0),
        Some(p) => {
            put_long(out, 1);
            put_str(out, p);
        }
    }
    put_long(out, s.network_total_transactions);
    put_long(out, s.transaction_count as i64);
    put_long(out, s.computation_cost);
    put_long(out, s.storage_cost);
    put_long(out, s.storage_rebate);
    put_long(out, s.non_refundable_storage_fee);
}

// ---- Kafka ----

/// Remembers that a delivery failed, so that its offset is never committed.
#[derive(Default)]
struct Deliveries {
    failed: AtomicBool,
}
impl ClientContext for Deliveries {}
impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();
    fn delivery(&self, r: &DeliveryResult<'_>, _: ()) {
        if let Err((e, _)) = r {
            eprintln!("delivery failed: {e}");
            self.failed.store(true, Ordering::Relaxed);
        }
    }
}

fn commit(
    eos: bool,
    consumer: &BaseConsumer,
    producer: &BaseProducer<Deliveries>,
    topic: &str,
    next: &mut HashMap<i32, i64>,
) -> Res<()> {
    let mut offsets = TopicPartitionList::new();
    for (p, o) in next.drain() {
        offsets.add_partition_offset(topic, p, Offset::Offset(o))?;
    }
    // Not `flush`: it does not serve delivery events while it waits, some 80 ms each time (rdkafka 0.39, measured).
    let deadline = Instant::now() + WAIT;
    while producer.in_flight_count() > 0 && Instant::now() < deadline {
        producer.poll(Duration::from_millis(1));
    }
    if producer.in_flight_count() > 0 {
        return Err("records were not delivered in time".into());
    }
    if producer.context().failed.load(Ordering::Relaxed) {
        return Err("a delivery failed".into());
    }
    if eos {
        let meta = consumer.group_metadata().ok_or("no group metadata")?;
        producer.send_offsets_to_transaction(&offsets, &meta, WAIT)?;
        producer.commit_transaction(WAIT)?;
    } else {
        consumer.commit(&offsets, CommitMode::Sync)?;
    }
    Ok(())
}

fn main() -> Res<()> {
    let a: Vec<String> = std::env::args().collect();
    if a.len() != 7 {
        return Err("peer BOOTSTRAP INPUT OUTPUT GROUP exactly_once|at_least_once typed|value".into());
    }
    let (boot, input, output, group) = (&a[1], &a[2], &a[3], &a[4]);
    let eos = match a[5].as_str() {
        "exactly_once" => true,
        "at_least_once" => false,
        m => return Err(format!("exactly_once or at_least_once, not {m}").into()),
    };
    let convert: fn(&[u8], &mut Vec<u8>) -> Res<()> = match a[6].as_str() {
        "typed" => typed,
        "value" => value,
        m => return Err(format!("typed or value, not {m}").into()),
    };

    let stop = Arc::new(AtomicBool::new(false));
    for s in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(s, stop.clone())?;
    }

    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", boot)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", if eos { "read_committed" } else { "read_uncommitted" })
        .set("max.partition.fetch.bytes", "16777216")
        .set("fetch.max.bytes", "67108864")
        .set("receive.message.max.bytes", "100000000")
        .set("queued.max.messages.kbytes", "65536")
        // The default of 1 s leaves the fetcher asleep long after a fast decoder has emptied the queue.
        .set("fetch.queue.backoff.ms", "10")
        .create()?;
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", boot)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("compression.type", "none")
        .set("message.max.bytes", "16777216")
        .set("partitioner", "murmur2_random");
    if eos {
        config.set("transactional.id", format!("{group}-0"));
    }
    let producer: BaseProducer<Deliveries> = config.create_with_context(Deliveries::default())?;
    if eos {
        producer.init_transactions(WAIT)?;
    }
    consumer.subscribe(&[input])?;

    let mut output_value = Vec::with_capacity(512);
    let mut next: HashMap<i32, i64> = HashMap::new(); // partition -> offset to commit
    let mut pending = 0; // records since the last commit; in eos a transaction is open iff > 0
    let mut began = Instant::now();
    loop {
        if let Some(m) = consumer.poll(Duration::from_millis(50)) {
            let m = m?;
            if pending == 0 {
                began = Instant::now();
                if eos {
                    producer.begin_transaction()?;
                }
            }
            let payload = m.payload().ok_or("empty record")?;
            convert(payload, &mut output_value).map_err(|e| format!("{}/{}: {e}", m.partition(), m.offset()))?;
            let mut record = BaseRecord::to(output).key(m.key().unwrap_or_default()).payload(&output_value[..]);
            while let Err((e, r)) = producer.send(record) {
                if !matches!(e, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                    return Err(e.into());
                }
                record = r;
                producer.poll(Duration::from_millis(100));
            }
            next.insert(m.partition(), m.offset() + 1);
            pending += 1;
        }
        producer.poll(Duration::ZERO);
        let stopping = stop.load(Ordering::Relaxed);
        if pending > 0 && (pending >= BATCH || stopping || began.elapsed() >= INTERVAL) {
            commit(eos, &consumer, &producer, input, &mut next)?;
            pending = 0;
        }
        if stopping {
            return Ok(());
        }
    }
}
