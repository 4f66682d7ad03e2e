-- As the package's schema version 1 wrote it: `sqlite3 ledger.db .dump`.
BEGIN TRANSACTION;
CREATE TABLE asks (
	ask_id VARCHAR NOT NULL, 
	model VARCHAR NOT NULL, 
	environment VARCHAR NOT NULL, 
	digest VARCHAR NOT NULL, 
	epoch INTEGER NOT NULL, 
	content TEXT NOT NULL, 
	requested_by VARCHAR, 
	at VARCHAR NOT NULL, 
	expires_at VARCHAR, 
	audit_seq INTEGER NOT NULL, 
	PRIMARY KEY (ask_id), 
	FOREIGN KEY(model, audit_seq) REFERENCES audit (model, seq), 
	UNIQUE (model, audit_seq)
);
INSERT INTO "asks" VALUES('f4c762d5b6f83ffce48eec82e5c391b8bd84f8f0bdf7db5dde06cbbad8c83afd','flights','test','f133f419754c1729385676947e5703fc290487fa19f4c50e71e9c009fecb1771',0,'{"dataset_fingerprint":"519b3ed503c6a825347f28dfd269c0a422e3b923858410e3abbab2d2a99837f2","digest":"f133f419754c1729385676947e5703fc290487fa19f4c50e71e9c009fecb1771","environment":"test","epoch":0,"gate_verdict":"pass","metrics_digest":"9fcb75ad297bf1df5b7ee26664af9e2c71963638599ae06ef8805ec627994a9b","model":"flights","policy_digest":"17ad92e63c962393c0329c658937d16eccaea13036412a3d1d0a5b6b8f29d738","renewal":0,"version":1}','bob','2026-03-01T12:00:00.000000+00:00','2026-03-04T12:00:00.000000+00:00',2);
INSERT INTO "asks" VALUES('6bed40309717de4aabb402a73ae5785e1b9bd90d51f415c926af6f27486f0434','flights','test','4a015a3a2d21ef6737a36acfe951afe6b04f28e3141d95d0f042096b81cf4c83',1,'{"dataset_fingerprint":"519b3ed503c6a825347f28dfd269c0a422e3b923858410e3abbab2d2a99837f2","digest":"4a015a3a2d21ef6737a36acfe951afe6b04f28e3141d95d0f042096b81cf4c83","environment":"test","epoch":1,"gate_verdict":"pass","metrics_digest":"1c739112bee36ed6b2e87a26448d51f9d3f585c164a1588abde82d204aa155f0","model":"flights","policy_digest":"17ad92e63c962393c0329c658937d16eccaea13036412a3d1d0a5b6b8f29d738","renewal":0,"version":2}','bob','2026-03-01T12:00:00.000000+00:00','2026-03-04T12:00:00.000000+00:00',8);
INSERT INTO "asks" VALUES('b7dd6fcc0be85731e1e2b170f77ff1a9007ab97abc7a35941de80a56bdda4952','flights','test','37bcb4570e69a5a0df9f1e2287253cd69e9a31eaac08deed419c8c46a1061ced',3,'{"dataset_fingerprint":"519b3ed503c6a825347f28dfd269c0a422e3b923858410e3abbab2d2a99837f2","digest":"37bcb4570e69a5a0df9f1e2287253cd69e9a31eaac08deed419c8c46a1061ced","environment":"test","epoch":3,"gate_verdict":"pass","metrics_digest":"00b8ed14f5cffbd5a9f710ba83d5fc76e8075973597dabd62c67c0625986121a","model":"flights","policy_digest":"17ad92e63c962393c0329c658937d16eccaea13036412a3d1d0a5b6b8f29d738","renewal":0,"version":3}','bob','2026-03-01T12:00:00.000000+00:00',NULL,12);
INSERT INTO "asks" VALUES('db2f51dceed649c7b7db79bc9dd50d76dc894ebb3302ebfa4e47b0899e92aabd','flights','test','a7109cd3c946a6db3465ee60cf2905e9d0be24af3aac80b20324daea8aa6181c',3,'{"dataset_fingerprint":"519b3ed503c6a825347f28dfd269c0a422e3b923858410e3abbab2d2a99837f2","digest":"a7109cd3c946a6db3465ee60cf2905e9d0be24af3aac80b20324daea8aa6181c","environment":"test","epoch":3,"gate_verdict":"pass","metrics_digest":"b0c2e575aca2ad3a029cb3a8071f1db628d04af35f087475133235fad1dd23a9","model":"flights","policy_digest":"17ad92e63c962393c0329c658937d16eccaea13036412a3d1d0a5b6b8f29d738","renewal":0,"version":4}','bob','2026-03-01T12:00:00.000000+00:00',NULL,13);
CREATE TABLE audit (
	model VARCHAR NOT NULL, 
	seq INTEGER NOT NULL, 
	environment VARCHAR NOT NULL, 
	at VARCHAR NOT NULL, 
	actor VARCHAR NOT NULL, 
	action VARCHAR NOT NULL, 
	subject VARCHAR NOT NULL, 
	detail TEXT NOT NULL, 
	record VARCHAR, 
	previous VARCHAR NOT NULL, 
	digest VARCHAR NOT NULL, 
	PRIMARY KEY (model, seq), 
	UNIQUE (digest)
);
INSERT INTO "audit" VALUES('flights',1,'test','2026-03-01T12:00:00.000000+00:00','pipeline','result','resolve of train/1','','474be2081f50ebb04b1e67c849ae0a078f7557174e2176e10f70ffeb331debc3','0000000000000000000000000000000000000000000000000000000000000000','4fa3c45d72f8ee0745fbd816cc931081258db6f44a45fa26af154496af26f1e9');
INSERT INTO "audit" VALUES('flights',2,'test','2026-03-01T12:00:00.000000+00:00','bob','ask','flights version 1 (f133f419) at epoch 0 in test','f4c762d5b6f83ffce48eec82e5c391b8bd84f8f0bdf7db5dde06cbbad8c83afd','7a9d650c0dc963a8dff13b793d35d638a990e90777dd464259f8daf66701503a','4fa3c45d72f8ee0745fbd816cc931081258db6f44a45fa26af154496af26f1e9','74fc6a6e0794a84b3597570c41e0fc725ad5ab6292d14a95e2b6a9f30be3d7d0');
INSERT INTO "audit" VALUES('flights',3,'test','2026-03-01T12:00:00.000000+00:00','ada','decide','flights version 1 (f133f419) at epoch 0 in test','approve','e6c2a039aef5934eb85f1469dabe71c28c9d01ed272196e6461d8f03c793aa23','74fc6a6e0794a84b3597570c41e0fc725ad5ab6292d14a95e2b6a9f30be3d7d0','e68cb351644f953d848aef44aa65cecf31379e2270f4564e27ed54530877b38e');
INSERT INTO "audit" VALUES('flights',4,'test','2026-03-01T12:00:00.000000+00:00','ada','release','flights version 1 (f133f419) at epoch 1 in test','','94ebc2b4db8a495aadefcbdc8c465f74fcc911e53d9c291f6dff7b4993c16445','e68cb351644f953d848aef44aa65cecf31379e2270f4564e27ed54530877b38e','1a34996596b1f8f5c714feb05378f47fa167d47c78fe571dc0f5e587efca0a6a');
INSERT INTO "audit" VALUES('flights',5,'test','2026-03-01T12:00:00.000000+00:00','ada','deployment','flights version 1 at epoch 1 in test','intent','9597cb321c0ec7c55b0c767936efc4df0460fa6d34a1b3ba61f74c5e238c5b57','1a34996596b1f8f5c714feb05378f47fa167d47c78fe571dc0f5e587efca0a6a','0988e4d71a323a41dacff0df37b7d5eb2d2db3a2ae9c5d47240dbb23c5e698b1');
INSERT INTO "audit" VALUES('flights',6,'test','2026-03-01T12:00:00.000000+00:00','ada','deployment','flights version 1 at epoch 1 in test','observed','83ff46fee3d6955cccccfb5f15e6dcb519aeaac102add030992711bba36d01cc','0988e4d71a323a41dacff0df37b7d5eb2d2db3a2ae9c5d47240dbb23c5e698b1','8ef40c0c79b9de5c21ccc6e77560c48871ccd9af15e6051b18e15217d1265497');
INSERT INTO "audit" VALUES('flights',7,'test','2026-03-01T12:00:00.000000+00:00','ada','deployment','flights version 1 at epoch 1 in test','done','e1153087e6683361370c58f010418fe5c02be5edb8548b5df01e2aace4964cd5','8ef40c0c79b9de5c21ccc6e77560c48871ccd9af15e6051b18e15217d1265497','ad0161b72fa10bb237f4452f9366bda52ee77861b4c2e6501c993a7e9a4579dd');
INSERT INTO "audit" VALUES('flights',8,'test','2026-03-01T12:00:00.000000+00:00','bob','ask','flights version 2 (4a015a3a) at epoch 1 in test','6bed40309717de4aabb402a73ae5785e1b9bd90d51f415c926af6f27486f0434','f7452ee9c552e4b93fe00001a10041c094c070a8dc683bedcb4684cdd09a6f37','ad0161b72fa10bb237f4452f9366bda52ee77861b4c2e6501c993a7e9a4579dd','64321111fb7152c2c36de97da174321cad36abc50982bb3305e9e70866482c24');
INSERT INTO "audit" VALUES('flights',9,'test','2026-03-01T12:00:00.000000+00:00','ada','decide','flights version 2 (4a015a3a) at epoch 1 in test','approve','82f3d7e1886242d970e5a107741b84a3c98b69362ed5f7ee791d9d2deb107c31','64321111fb7152c2c36de97da174321cad36abc50982bb3305e9e70866482c24','b553e709268cb0a3f9aa2f9b3ac44b77e268e569944bc37381fdc8546fc4c293');
INSERT INTO "audit" VALUES('flights',10,'test','2026-03-01T12:00:00.000000+00:00','ada','release','flights version 2 (4a015a3a) at epoch 2 in test','','8ca4b93d884f83eff4a1381fc633a6afadfdb8a57ef0f29cdba15dbc11a5b500','b553e709268cb0a3f9aa2f9b3ac44b77e268e569944bc37381fdc8546fc4c293','6a330ac59d495529442b65d7d5610de7593235531b36a5c18d536a830547e90a');
INSERT INTO "audit" VALUES('flights',11,'test','2026-03-01T13:00:00.000000+00:00','olga','rollback','flights version 1 (f133f419) at epoch 3 in test','late flights','6c318367b6784aa35f6452672d6a33f5cf0125a2af1195b3e5b7d3b20de759d9','6a330ac59d495529442b65d7d5610de7593235531b36a5c18d536a830547e90a','1eb603028e9cba5c03943bc8b21ba2f043645a369d377ea7970e26c702d2a104');
INSERT INTO "audit" VALUES('flights',12,'test','2026-03-01T12:00:00.000000+00:00','bob','ask','flights version 3 (37bcb457) at epoch 3 in test','b7dd6fcc0be85731e1e2b170f77ff1a9007ab97abc7a35941de80a56bdda4952','d960edd4a8bfaaff9a5eb623dd19fa81229ab0213bfb7312e157ea9a93cb5205','1eb603028e9cba5c03943bc8b21ba2f043645a369d377ea7970e26c702d2a104','00b119dc873a58800d838fe3ded919e1223aae53e4ccdc65febd4495ec017211');
INSERT INTO "audit" VALUES('flights',13,'test','2026-03-01T12:00:00.000000+00:00','bob','ask','flights version 4 (a7109cd3) at epoch 3 in test','db2f51dceed649c7b7db79bc9dd50d76dc894ebb3302ebfa4e47b0899e92aabd','909a9922b8235e9e44c85ba215f350e1a07d7d71cdb5931a75adfe8f5b4de8f1','00b119dc873a58800d838fe3ded919e1223aae53e4ccdc65febd4495ec017211','bc2cfd7fe2a5385fc28f0d07557dd625ebbad08c43ce9d4c82f32c93e66e2671');
INSERT INTO "audit" VALUES('flights',14,'test','2026-03-01T12:00:00.000000+00:00','pipeline','supersede','flights version 3 (37bcb457) at epoch 3 in test','','19acf9a7a7c541c412c80b3773aef24477ff155f2985999b47b28900b75275b9','bc2cfd7fe2a5385fc28f0d07557dd625ebbad08c43ce9d4c82f32c93e66e2671','56bac4730a3666d4548a62befc8e76a89e03428d28d6436bb4f4de696eac993a');
INSERT INTO "audit" VALUES('flights',15,'test','2026-03-01T12:00:00.000000+00:00','olga','rollback refused','flights in test','flights in test: there is no earlier champion to bring back; train and release another version',NULL,'56bac4730a3666d4548a62befc8e76a89e03428d28d6436bb4f4de696eac993a','360cb4d5cb14884bb8adb0070e6b8a7cb2a40615f0f8910f48c9f2bdc5fa7a8f');
CREATE TABLE decisions (
	ask_id VARCHAR NOT NULL, 
	model VARCHAR NOT NULL, 
	environment VARCHAR NOT NULL, 
	digest VARCHAR NOT NULL, 
	outcome VARCHAR NOT NULL CHECK (outcome IN ('approve', 'reject')), 
	decided_by VARCHAR NOT NULL, 
	requested_by VARCHAR, 
	reason TEXT NOT NULL, 
	at VARCHAR NOT NULL, 
	expires_at VARCHAR, 
	audit_seq INTEGER NOT NULL, 
	PRIMARY KEY (ask_id), 
	FOREIGN KEY(model, audit_seq) REFERENCES audit (model, seq), 
	UNIQUE (model, audit_seq), 
	FOREIGN KEY(ask_id) REFERENCES asks (ask_id)
);
INSERT INTO "decisions" VALUES('f4c762d5b6f83ffce48eec82e5c391b8bd84f8f0bdf7db5dde06cbbad8c83afd','flights','test','f133f419754c1729385676947e5703fc290487fa19f4c50e71e9c009fecb1771','approve','ada',NULL,'','2026-03-01T12:00:00.000000+00:00','2026-03-04T12:00:00.000000+00:00',3);
INSERT INTO "decisions" VALUES('6bed40309717de4aabb402a73ae5785e1b9bd90d51f415c926af6f27486f0434','flights','test','4a015a3a2d21ef6737a36acfe951afe6b04f28e3141d95d0f042096b81cf4c83','approve','ada',NULL,'','2026-03-01T12:00:00.000000+00:00','2026-03-04T12:00:00.000000+00:00',9);
CREATE TABLE deployment_steps (
	model VARCHAR NOT NULL, 
	environment VARCHAR NOT NULL, 
	epoch INTEGER NOT NULL, 
	state VARCHAR NOT NULL, 
	detail TEXT NOT NULL, 
	at VARCHAR NOT NULL, 
	audit_seq INTEGER NOT NULL, 
	PRIMARY KEY (model, environment, epoch, state), 
	FOREIGN KEY(model, audit_seq) REFERENCES audit (model, seq), 
	UNIQUE (model, audit_seq), 
	FOREIGN KEY(model, environment, epoch) REFERENCES moves (model, environment, epoch)
);
INSERT INTO "deployment_steps" VALUES('flights','test',1,'intent','{}','2026-03-01T12:00:00.000000+00:00',5);
INSERT INTO "deployment_steps" VALUES('flights','test',1,'observed','{}','2026-03-01T12:00:00.000000+00:00',6);
INSERT INTO "deployment_steps" VALUES('flights','test',1,'done','{}','2026-03-01T12:00:00.000000+00:00',7);
CREATE TABLE moves (
	model VARCHAR NOT NULL, 
	environment VARCHAR NOT NULL, 
	epoch INTEGER NOT NULL CHECK (epoch >= 1), 
	kind VARCHAR NOT NULL CHECK (kind IN ('release', 'rollback')), 
	version INTEGER NOT NULL, 
	digest VARCHAR NOT NULL, 
	uri VARCHAR NOT NULL, 
	decision_id VARCHAR, 
	rollback_key VARCHAR, 
	moved_by VARCHAR NOT NULL, 
	reason TEXT NOT NULL, 
	at VARCHAR NOT NULL, 
	audit_seq INTEGER NOT NULL, 
	PRIMARY KEY (model, environment, epoch), 
	FOREIGN KEY(model, audit_seq) REFERENCES audit (model, seq), 
	UNIQUE (model, audit_seq), 
	UNIQUE (model, environment, rollback_key), 
	CONSTRAINT release_has_decision CHECK ((kind = 'release') = (decision_id IS NOT NULL)), 
	CONSTRAINT rollback_has_key CHECK ((kind = 'rollback') = (rollback_key IS NOT NULL)), 
	UNIQUE (decision_id), 
	FOREIGN KEY(decision_id) REFERENCES decisions (ask_id)
);
INSERT INTO "moves" VALUES('flights','test',1,'release',1,'f133f419754c1729385676947e5703fc290487fa19f4c50e71e9c009fecb1771','runs:/1/model','f4c762d5b6f83ffce48eec82e5c391b8bd84f8f0bdf7db5dde06cbbad8c83afd',NULL,'ada','','2026-03-01T12:00:00.000000+00:00',4);
INSERT INTO "moves" VALUES('flights','test',2,'release',2,'4a015a3a2d21ef6737a36acfe951afe6b04f28e3141d95d0f042096b81cf4c83','runs:/2/model','6bed40309717de4aabb402a73ae5785e1b9bd90d51f415c926af6f27486f0434',NULL,'ada','','2026-03-01T12:00:00.000000+00:00',10);
INSERT INTO "moves" VALUES('flights','test',3,'rollback',1,'f133f419754c1729385676947e5703fc290487fa19f4c50e71e9c009fecb1771','runs:/1/model',NULL,'run 7','olga','late flights','2026-03-01T13:00:00.000000+00:00',11);
CREATE TABLE schema_version (
	version INTEGER NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "schema_version" VALUES(1);
CREATE TABLE stage_results (
	environment VARCHAR NOT NULL, 
	run VARCHAR NOT NULL, 
	stage VARCHAR NOT NULL, 
	digest VARCHAR NOT NULL, 
	model VARCHAR NOT NULL, 
	content TEXT NOT NULL, 
	at VARCHAR NOT NULL, 
	audit_seq INTEGER NOT NULL, 
	PRIMARY KEY (environment, run, stage, digest, model), 
	FOREIGN KEY(model, audit_seq) REFERENCES audit (model, seq), 
	UNIQUE (model, audit_seq)
);
INSERT INTO "stage_results" VALUES('test','train/1','resolve','f5333c7c561ea88154c81975343afd5901fa15a77158f5fd094b717bd88df381','flights','{"hyperparameters":{},"model":"flights","partition":"","partitions":[],"reason":"new data","requester":null,"run_id":"","stream":"train","trigger":"command","version":null}','2026-03-01T12:00:00.000000+00:00',1);
CREATE TABLE superseded_asks (
	ask_id VARCHAR NOT NULL, 
	model VARCHAR NOT NULL, 
	environment VARCHAR NOT NULL, 
	superseded_by VARCHAR NOT NULL, 
	at VARCHAR NOT NULL, 
	audit_seq INTEGER NOT NULL, 
	PRIMARY KEY (ask_id), 
	FOREIGN KEY(model, audit_seq) REFERENCES audit (model, seq), 
	UNIQUE (model, audit_seq), 
	FOREIGN KEY(ask_id) REFERENCES asks (ask_id), 
	FOREIGN KEY(superseded_by) REFERENCES asks (ask_id)
);
INSERT INTO "superseded_asks" VALUES('b7dd6fcc0be85731e1e2b170f77ff1a9007ab97abc7a35941de80a56bdda4952','flights','test','db2f51dceed649c7b7db79bc9dd50d76dc894ebb3302ebfa4e47b0899e92aabd','2026-03-01T12:00:00.000000+00:00',14);
CREATE INDEX ix_stage_results_stage ON stage_results (environment, model, stage);
CREATE INDEX ix_stage_results_digest ON stage_results (environment, digest);
CREATE INDEX ix_asks_model ON asks (model, environment);
CREATE INDEX ix_decisions_digest ON decisions (model, environment, digest);
COMMIT;
