import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;

/** Peer BOOTSTRAP INPUT OUTPUT GROUP exactly_once|at_least_once: Kafka Streams, INPUT -> mapValues -> OUTPUT. */
public class Peer {
    static final ObjectMapper JSON = new ObjectMapper();
    static final Schema SCHEMA = schema();

    static Schema schema() {
        try (InputStream in = Peer.class.getResourceAsStream("/v1.avsc")) {
            return new Schema.Parser().parse(in);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    static final class Writer {
        final GenericDatumWriter<GenericRecord> datum = new GenericDatumWriter<>(SCHEMA);
        final ByteArrayOutputStream buf = new ByteArrayOutputStream(512);
        BinaryEncoder enc;
    }

    static final ThreadLocal<Writer> WRITER = ThreadLocal.withInitial(Writer::new);

    static JsonNode need(JsonNode parent, String name) {
        JsonNode n = parent.get(name);
        if (n == null) throw new IllegalArgumentException("checkpoint lacks " + name);
        return n;
    }

    static long whole(JsonNode parent, String name) {
        JsonNode n = need(parent, name);
        return n.isTextual() ? Long.parseLong(n.textValue()) : n.longValue();
    }

    static byte[] convert(byte[] value) {
        try {
            JsonNode root = JSON.readTree(value);
            JsonNode d = need(need(root, "checkpoint_summary"), "data");
            JsonNode gas = need(d, "epoch_rolling_gas_cost_summary");
            JsonNode prev = d.get("previous_digest");
            GenericRecord r = new GenericData.Record(SCHEMA);
            r.put("sequence_number", whole(d, "sequence_number"));
            r.put("epoch", whole(d, "epoch"));
            r.put("timestamp_ms", whole(d, "timestamp_ms"));
            r.put("content_digest", need(d, "content_digest").textValue());
            r.put("previous_digest", prev == null || prev.isNull() ? null : prev.textValue());
            r.put("network_total_transactions", whole(d, "network_total_transactions"));
            r.put("transaction_count", need(root, "transactions").size());
            r.put("computation_cost", whole(gas, "computationCost"));
            r.put("storage_cost", whole(gas, "storageCost"));
            r.put("storage_rebate", whole(gas, "storageRebate"));
            r.put("non_refundable_storage_fee", whole(gas, "nonRefundableStorageFee"));

            Writer w = WRITER.get();
            w.buf.reset();
            w.buf.write(0);
            w.buf.write(0);
            w.buf.write(0);
            w.buf.write(0);
            w.buf.write(1);
            w.enc = EncoderFactory.get().binaryEncoder(w.buf, w.enc);
            w.datum.write(r, w.enc);
            w.enc.flush();
            return w.buf.toByteArray();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    public static void main(String[] a) throws Exception {
        String boot = a[0], in = a[1], out = a[2], group = a[3];
        boolean eos = switch (a[4]) {
            case "exactly_once" -> true;
            case "at_least_once" -> false;
            default -> throw new IllegalArgumentException("exactly_once or at_least_once, not " + a[4]);
        };
        int mib = 1 << 20;
        Properties p = new Properties();
        p.put(StreamsConfig.APPLICATION_ID_CONFIG, group);
        p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, boot);
        p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, eos ? StreamsConfig.EXACTLY_ONCE_V2 : StreamsConfig.AT_LEAST_ONCE);
        p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, Integer.parseInt(System.getenv().getOrDefault("COMMIT_INTERVAL_MS", "1000")));
        p.put(StreamsConfig.STATE_DIR_CONFIG, Files.createTempDirectory("peer-streams").toString());
        p.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        p.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        p.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        p.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 16 * mib);
        p.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MAX_BYTES_CONFIG), 64 * mib);
        p.put(StreamsConfig.producerPrefix(ProducerConfig.MAX_REQUEST_SIZE_CONFIG), 16 * mib);
        p.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 64L * mib);
        p.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "none");
        p.put(StreamsConfig.producerPrefix(ProducerConfig.ACKS_CONFIG), "all");
        p.put(StreamsConfig.producerPrefix(ProducerConfig.ENABLE_IDEMPOTENCE_CONFIG), true);
        p.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 5);

        StreamsBuilder b = new StreamsBuilder();
        b.stream(in, Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
            .mapValues(Peer::convert)
            .to(out, Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));

        KafkaStreams streams = new KafkaStreams(b.build(), p);
        CountDownLatch done = new CountDownLatch(1);
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.ERROR) done.countDown();
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
        done.await();
        System.exit(1);
    }
}
