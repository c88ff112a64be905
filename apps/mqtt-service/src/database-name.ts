/** The embedded server's database. */
export const DATABASE_NAME = 'mqtt_db';
