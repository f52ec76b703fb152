"use strict";
// Composes a message from MAIL_* (see driver/clients.py) with nodemailer, or sends MAIL_RAW as it is.
const fs = require("fs");
const nodemailer = require("nodemailer");

const env = process.env;
const list = (name) => (env[name] ? env[name].split(",") : []);

function message() {
  if (env.MAIL_RAW) {
    return { envelope: { from: env.MAIL_FROM, to: list("MAIL_RCPT") }, raw: fs.readFileSync(env.MAIL_RAW) };
  }
  return {
    from: env.MAIL_FROM,
    to: list("MAIL_TO"),
    cc: list("MAIL_CC"),
    bcc: list("MAIL_BCC"),
    subject: env.MAIL_SUBJECT,
    text: fs.readFileSync(env.MAIL_TEXT, "utf8"),
    attachments: list("MAIL_ATTACHMENT").map((path) => ({ path })),
  };
}

async function main() {
  const transporter = nodemailer.createTransport({
    host: env.SMTP_HOST,
    port: Number(env.SMTP_PORT),
    secure: env.SMTP_SECURE === "implicit",
    auth: { user: env.SMTP_USERNAME, pass: env.SMTP_PASSWORD },
    authMethod: env.SMTP_AUTH || undefined,
    requireTLS: true,
  });
  const info = await transporter.sendMail(message());
  if (info.rejected.length) {
    throw new Error(`refused: ${info.rejected}`);
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
