import { parseSecret } from '../domain/signing-secret.js';
import { signatureHeaders } from './webhook-signature.js';

describe('a signature', () => {
  it('is what the library of the specification makes of the same message', () => {
    // https://github.com/standard-webhooks/standard-webhooks, its test of signing.
    const headers = signatureHeaders(
      parseSecret('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'),
      'msg_p5jXN8AQM9LWM0D4loKWxJek',
      1_614_265_330,
      '{"test": 2432232314}',
    );
    expect(headers).toEqual({
      'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
      'webhook-timestamp': '1614265330',
      'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
    });
  });
});
