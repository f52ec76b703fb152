"use strict";
// SendPost's documented Node sample, the same library calls. What differs comes from the environment:
// SMTP_HOST, SMTP_PORT, SMTP_SECURE, SMTP_USERNAME, SMTP_PASSWORD and, for the CA, NODE_EXTRA_CA_CERTS.
const nodemailer = require("nodemailer");

const env = process.env;

async function main() {
  const transporter = nodemailer.createTransport({
    host: env.SMTP_HOST,
    port: Number(env.SMTP_PORT),
    secure: env.SMTP_SECURE === "implicit",
    auth: { user: env.SMTP_USERNAME, pass: env.SMTP_PASSWORD },
    requireTLS: true,
    debug: true,
    logger: true,
  });
  const info = await transporter.sendMail({
    from: "erlich@piedpiper.com",
    to: "gilfoyle@piedpiper.com",
    subject: "Test Email Subject",
    html: "<h1>Hello Geeks!!!</h1>",
  });
  console.log("sent as %s", info.messageId);
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
