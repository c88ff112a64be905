/** A configured device topic such as `devices/+/data`, whose one `+` stands for the device id. */
export class DeviceTopic {
  private readonly prefix: string;
  private readonly suffix: string;

  /** @param filter a topic filter with exactly one `+` level and no `#`: the configuration sees to it. */
  constructor(readonly filter: string) {
    const at = filter.indexOf('+');
    this.prefix = filter.slice(0, at);
    this.suffix = filter.slice(at + 1);
  }

  /** The device id a concrete topic names, or null when the topic is another's. */
  deviceIdOf(topic: string): string | null {
    if (!topic.startsWith(this.prefix) || !topic.endsWith(this.suffix)) return null;
    const id = topic.slice(this.prefix.length, topic.length - this.suffix.length);
    if (topic.length < this.prefix.length + this.suffix.length || id.includes('/')) return null;
    return id;
  }

  /** The concrete topic of one device. */
  of(deviceId: string): string {
    return this.prefix + deviceId + this.suffix;
  }
}

/** Whether a subscription to a filter gets what is published on a topic (MQTT 5, section 4.7). */
export function filterMatches(filter: string, topic: string): boolean {
  if (topic.startsWith('$') && /^[+#]/.test(filter)) return false;
  const levels = topic.split('/');
  const wanted = filter.split('/');
  for (const [index, level] of wanted.entries()) {
    if (level === '#') return true;
    if (index >= levels.length || (level !== '+' && level !== levels[index])) return false;
  }
  return levels.length === wanted.length;
}
