#!/bin/sh
# Configures the broker from KAFKA_* variables with Kafka's own container set-up class, as the official image does
# (KAFKA_LOG_DIRS -> log.dirs, CLUSTER_ID -> the id its storage is formatted with), then becomes the broker.
set -eu
config=$(mktemp -d)
mkdir "$config/defaults" "$config/mounted"
touch "$config/defaults/server.properties" "$config/defaults/log4j2.yaml" "$config/defaults/tools-log4j2.yaml"
if ! said=$(java -cp '/opt/kafka/libs/*' kafka.docker.KafkaDockerWrapper setup --default-configs-dir "$config/defaults" \
    --mounted-configs-dir "$config/mounted" --final-configs-dir "$config" 2>&1); then
  case $said in
    *'already formatted'*) ;; # a container that is started again
    *) echo "$said" >&2; exit 1 ;;
  esac
fi
# shellcheck disable=SC2086  # several options in one variable
exec java ${KAFKA_HEAP_OPTS:--Xmx768m} -XX:+UseSerialGC -Dlog4j2.configurationFile=/opt/kafka/log4j2.properties \
  -cp '/opt/kafka/libs/*' kafka.Kafka "$config/server.properties"
